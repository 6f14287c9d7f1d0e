"""Not there: Trainyard's horovod is for PyTorch."""
raise ImportError("horovod.data is not available: Trainyard provides horovod.torch and horovod.run; see docs/horovod.md", name=__name__)
