"""Collecting what web services are asked comes with a later release; the name imports, and says so on first use."""
from azureml.core._later import later_name

__all__ = ["ModelDataCollector"]

ModelDataCollector = later_name(
    __name__ + ".ModelDataCollector",
    "a web service", "load the model from outputs/ in a program of your own")
