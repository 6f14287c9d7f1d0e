"""References to data in datastores."""
