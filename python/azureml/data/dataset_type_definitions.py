"""Words about datasets, which come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_name

__all__ = ["PromoteHeadersBehavior"]

PromoteHeadersBehavior = later_name(
    __name__ + ".PromoteHeadersBehavior",
    "a dataset", "use a datastore: ws.get_default_datastore().path('x').as_mount()")
