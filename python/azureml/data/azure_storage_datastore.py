"""Datastores by the cloud's names of their kinds."""
from azureml.core.datastore import Datastore


class AzureBlobDatastore(Datastore):
    """What ``Datastore(...)`` gives: here a folder of the installation."""


__all__ = ["AzureBlobDatastore"]
