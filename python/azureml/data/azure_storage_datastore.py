"""Datastores by the cloud's names of their kinds."""
from azureml.core.datastore import Datastore


class AzureBlobDatastore(Datastore):
    """What ``Datastore(...)`` gives: here a folder of the installation."""


class AzureFileDatastore(Datastore):
    """The same under the name of another kind of the cloud; ``Datastore(...)`` never gives it."""


__all__ = ["AzureBlobDatastore", "AzureFileDatastore"]
