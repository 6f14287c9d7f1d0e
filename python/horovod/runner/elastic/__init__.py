"""Jobs whose workers come and go: the driver in the launcher, and the client in each worker."""
