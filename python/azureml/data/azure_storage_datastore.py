"""Datastores by the cloud's names of their kinds."""
from typing import Any, Dict, Type

from azureml.core.datastore import Datastore

__all__ = ["AzureBlobDatastore", "AzureFileDatastore", "S3Datastore"]


class AzureBlobDatastore(Datastore):
    """A container of Azure Blob Storage, or a folder."""


class AzureFileDatastore(Datastore):
    """A file share of the cloud; here the folder that is made for what notebooks keep in one."""

    @property
    def datastore_type(self) -> str:
        """'AzureFile'."""
        return "AzureFile"


class S3Datastore(Datastore):
    """A bucket of S3, or of what speaks like it (Trainyard's own)."""

    @property
    def datastore_type(self) -> str:
        """'S3'."""
        return "S3"

    @property
    def account_name(self) -> str:
        """'': a bucket has none."""
        return ""

    @property
    def bucket_name(self) -> str:
        """The bucket."""
        return self.container_name

    @property
    def region(self) -> str:
        """Its region."""
        return self._config.get("region") or ""


def kind_of(record: Dict[str, Any]) -> Type[Datastore]:
    """The class for DATASTORE."""
    if record["kind"] == "s3":
        return S3Datastore
    share = record["name"] == "workspacefilestore" or "file_share_name" in (record.get("config") or {})
    return AzureFileDatastore if share else AzureBlobDatastore
