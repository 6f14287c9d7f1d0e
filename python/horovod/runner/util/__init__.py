"""Names that scripts written for Horovod import from here."""
