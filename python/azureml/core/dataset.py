"""Datasets come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_name

__all__ = ["Dataset"]

Dataset = later_name(
    __name__ + ".Dataset",
    "a dataset", "use a datastore: ws.get_default_datastore().path('x').as_mount()")
