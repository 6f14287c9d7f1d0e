"""Tensorboard comes with a later release; the name imports, and says so on first use."""
from azureml.core._later import later_name

__all__ = ["export_to_tensorboard"]

export_to_tensorboard = later_name(
    __name__ + ".export_to_tensorboard",
    "files of curves", "draw what run.get_metrics() gives")
