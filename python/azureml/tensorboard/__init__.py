"""Tensorboard comes with a later release; the name imports, and says so on first use."""
from azureml.core._later import later_name

__all__ = ["Tensorboard"]

Tensorboard = later_name(
    __name__ + ".Tensorboard",
    "a server of curves", "run the program tensorboard on files that run.download_files(prefix='logs') gives")
