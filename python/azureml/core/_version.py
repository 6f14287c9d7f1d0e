"""The version of the SDK whose interface this is."""
VERSION = "1.60.0"
