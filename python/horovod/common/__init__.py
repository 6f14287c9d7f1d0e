"""What every framework's module of `horovod` shares."""
