"""Datasets: files that are registered by name and version. Tabular ones come with a later release."""
import os
import posixpath
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

from azureml.core._later import _LaterName, later_name
from azureml.core._service import client, later, sdk_errors
from azureml.data import file_dataset
from azureml.data.file_dataset import FileDataset
from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace

__all__ = ["Dataset"]

TABLES = "make a file dataset (Dataset.File.from_files), and read its files with pandas in your script"


class FileDatasetFactory:
    """``Dataset.File``: makes file datasets."""

    @staticmethod
    def from_files(path: Any, validate: bool = True, partition_format: Optional[str] = None, is_file: bool = False) -> FileDataset:
        """A dataset of files.

        path: a (datastore, path) pair, a DataPath, the address of a file on the web, a path on this machine, or a list of them. In paths `*`
            and `?` stand for names, and `**` for any folders. What is not in a datastore is brought into the default one when it is
            needed: a file of the web once. validate: UserErrorException now for paths in datastores that have no files.
        """
        if partition_format is not None:
            raise later("Dataset.File.from_files: partition_format", "leave it out, and read the parts of paths in your script")
        made = FileDataset(file_dataset.sources_of(path, "Dataset.File.from_files"))
        stores = [s for s in made._sources if not isinstance(s, str)]
        if validate and stores:
            file_dataset._paths.files(stores)
        return made

    @staticmethod
    def upload_directory(src_dir: str, target: Any, pattern: Optional[str] = None, overwrite: bool = False,
                         show_progress: bool = True) -> FileDataset:
        """Upload a folder to `target`, a (datastore, path) pair or a DataPath, and make a dataset of it.

        pattern: only files whose path in the folder it matches, with `*`, `?`, `[a-z]`, and `**` for any folders.
        """
        (source,) = file_dataset.sources_of(target, "Dataset.File.upload_directory: target")
        if isinstance(source, str):
            raise UserErrorException("Dataset.File.upload_directory: target is '%s'; a (datastore, path) pair is needed" % source)
        datastore, path = source
        if pattern is None:
            datastore.upload(src_dir, path or None, overwrite, show_progress)
            return FileDataset([source])
        found = [os.path.join(folder, name) for folder, _, names in sorted(os.walk(src_dir)) for name in sorted(names)]
        chosen = [f for f in found if os.path.isfile(f) and file_dataset._paths.matches(pattern, os.path.relpath(f, src_dir))]
        if not chosen:
            raise UserErrorException("Dataset.File.upload_directory: the pattern '%s' matches no file of '%s'" % (pattern, src_dir))
        datastore.upload_files(chosen, src_dir, path or None, overwrite, show_progress)
        return FileDataset([(datastore, posixpath.join(file_dataset._paths.literal(path), pattern))])


class _Names(_LaterName):
    """Names of Dataset that a later release brings."""

    def __call__(cls, *args: Any, **named: Any) -> Any:
        raise UserErrorException("Dataset is not made by calling it; use Dataset.File.from_files, or Dataset.get_by_name")


class Dataset(metaclass=_Names):
    """``Dataset.File``, and datasets that are registered."""

    _what = "a dataset of tables"
    _instead = TABLES

    File = FileDatasetFactory
    Tabular = later_name("azureml.core.dataset.Dataset.Tabular", "a dataset of tables", TABLES)

    @staticmethod
    def get_by_name(workspace: "Workspace", name: str, version: Union[int, str] = "latest") -> FileDataset:
        """A registered dataset. UserErrorException when there is none of that name and version."""
        with sdk_errors():
            record = client().registered("dataset", name, str(version))
        return file_dataset.of_record(workspace, record)

    @staticmethod
    def get_by_id(workspace: "Workspace", id: str, **_: Any) -> FileDataset:  # noqa: A002 - the SDK's word
        """A registered dataset by its `id`. UserErrorException when there is none."""
        with sdk_errors():
            for latest in client().registered_names("dataset"):
                for record in client().registered_versions("dataset", latest["name"]):
                    if file_dataset.id_of(record["name"], record["version"]) == id:
                        return file_dataset.of_record(workspace, record)
        raise UserErrorException("there is no dataset with the id '%s'" % id)

    @staticmethod
    def get(workspace: "Workspace", name: Optional[str] = None, id: Optional[str] = None) -> FileDataset:  # noqa: A002
        """The older way to both."""
        if name is None and id is None:
            raise UserErrorException("Dataset.get: give a name or an id")
        return Dataset.get_by_name(workspace, name) if name is not None else Dataset.get_by_id(workspace, str(id))

    @staticmethod
    def get_all(workspace: "Workspace") -> Dict[str, FileDataset]:
        """name -> the latest version of each registered dataset."""
        with sdk_errors():
            records = client().registered_names("dataset")
        return {record["name"]: file_dataset.of_record(workspace, record) for record in records}
