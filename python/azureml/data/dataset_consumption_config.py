"""Datasets come with a later release; the names import, and say so on first use."""
from azureml.core._later import placeholder

__all__ = ["DatasetConsumptionConfig"]

DatasetConsumptionConfig = placeholder(
    __name__ + ".DatasetConsumptionConfig",
    "a dataset", "use a datastore: ws.get_default_datastore().path('x').as_mount()")
