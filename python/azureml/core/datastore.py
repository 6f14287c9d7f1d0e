"""Datastores: named storage that scripts read data from and write data to. Here each is a folder of the installation."""
import os
import uuid
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Tuple

from azureml.core._progress import Progress
from azureml.core._service import client, later, sdk_errors
from azureml.data.data_reference import _LETTERS, DataReference, clean_path
from azureml.exceptions import UserErrorException
from trainyard import errors

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace


class Datastore:
    """A datastore that exists: ``Datastore(workspace, name)``; without a name the default one.

    Names do not distinguish upper and lower case. UserErrorException for an unknown name.
    """

    def __new__(cls, workspace: Any = None, name: Any = None, **_: Any) -> "Datastore":
        from azureml.data.azure_storage_datastore import AzureBlobDatastore

        return super().__new__(AzureBlobDatastore if cls is Datastore else cls)

    def __init__(self, workspace: "Workspace", name: Optional[str] = None, _record: Optional[Dict[str, Any]] = None) -> None:
        if name is not None and not isinstance(name, str):
            raise UserErrorException("Datastore: name is of type %s; a text is needed" % type(name).__name__)
        record = _record or _find(name)
        self.workspace = workspace
        self.name: str = record["name"]
        self.is_default: bool = bool(record.get("default"))
        self._root: str = record["root"]

    @staticmethod
    def _of(workspace: "Workspace", record: Dict[str, Any]) -> "Datastore":
        return Datastore(workspace, record["name"], _record=record)

    @staticmethod
    def get(workspace: "Workspace", datastore_name: str) -> "Datastore":
        """The datastore of that name. UserErrorException when there is none."""
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: "Workspace") -> "Datastore":
        """The default datastore, ``workspaceblobstore``."""
        return Datastore(workspace)

    @staticmethod
    def register_azure_blob_container(*_: Any, **__: Any) -> "Datastore":
        """Storage in the Azure cloud comes with a later release: UserErrorException."""
        raise later("a blob container of the Azure cloud", "upload the data to ws.get_default_datastore() instead")

    @staticmethod
    def register_azure_file_share(*_: Any, **__: Any) -> "Datastore":
        """Storage in the Azure cloud comes with a later release: UserErrorException."""
        raise later("a file share of the Azure cloud", "upload the data to ws.get_default_datastore() instead")

    def unregister(self) -> None:
        """Comes with a later release: UserErrorException."""
        raise later("Datastore.unregister ('%s')" % self.name, "leave it: it is a folder of the installation")

    @property
    def datastore_type(self) -> str:
        """'AzureBlob': scripts branch on the cloud's words."""
        return "AzureBlob"

    @property
    def account_name(self) -> str:
        """'local': there is no account."""
        return "local"

    @property
    def container_name(self) -> str:
        """The folder that holds the files."""
        return self._root

    @property
    def account_key(self) -> str:
        """'': there is no account."""
        return ""

    @property
    def protocol(self) -> str:
        """'file'."""
        return "file"

    @property
    def endpoint(self) -> str:
        """'': there is none."""
        return ""

    # References

    def path(self, path: Optional[str] = None, data_reference_name: Optional[str] = None) -> DataReference:
        """A reference to `path` in this datastore; data_reference_name: default generated."""
        return DataReference(self, data_reference_name or uuid.uuid4().hex.translate(_LETTERS), path)

    def as_mount(self) -> DataReference:
        """A reference to the whole datastore, in the run's reach without copying."""
        return DataReference(self)

    def as_download(self, path_on_compute: Optional[str] = None, overwrite: bool = False) -> DataReference:
        """A reference to the whole datastore, copied for the run before it starts."""
        return DataReference(self, mode="download", path_on_compute=path_on_compute, overwrite=overwrite)

    def as_upload(self, path_on_compute: Optional[str] = None, overwrite: bool = False) -> DataReference:
        """A directory or file of the run that is copied to the datastore after the script."""
        return DataReference(self, mode="upload", path_on_compute=path_on_compute, overwrite=overwrite)

    # Files

    def upload(self, src_dir: str, target_path: Optional[str] = None, overwrite: bool = False,
               show_progress: bool = True) -> DataReference:
        """Copy the files below `src_dir` to `target_path` (default: the root).

        overwrite: replace files that are there; otherwise they are left as they are. Returns a reference to target_path.
        """
        if not os.path.isdir(src_dir):
            raise UserErrorException("Datastore.upload: src_dir '%s' is not a directory" % src_dir)
        files = [os.path.join(folder, name) for folder, _, names in sorted(os.walk(src_dir)) for name in sorted(names)]
        return self._upload([(f, os.path.relpath(f, src_dir)) for f in files if os.path.isfile(f)], target_path, overwrite,
                            show_progress)

    def upload_files(self, files: Iterable[str], relative_root: Optional[str] = None, target_path: Optional[str] = None,
                     overwrite: bool = False, show_progress: bool = True) -> DataReference:
        """Copy the named files to `target_path` (default: the root).

        relative_root: the folder whose part of the paths is left out (default: the one that holds them all);
            UserErrorException when a file is not below it or does not exist.
        """
        if isinstance(files, (str, bytes)):
            raise UserErrorException("Datastore.upload_files: files is a single text; a list of paths is needed")
        paths = [os.path.abspath(os.fspath(f)) for f in files]
        for path in paths:
            if not os.path.isfile(path):
                raise UserErrorException("Datastore.upload_files: '%s' is not a file" % path)
        root = os.path.abspath(relative_root) if relative_root else (
            os.path.commonpath([os.path.dirname(p) for p in paths]) if paths else os.getcwd())
        for path in paths:
            if os.path.commonpath([root, path]) != root:
                raise UserErrorException("Datastore.upload_files: '%s' is not below relative_root '%s'" % (path, relative_root))
        return self._upload([(p, os.path.relpath(p, root)) for p in paths], target_path, overwrite, show_progress)

    def _upload(self, pairs: List[Tuple[str, str]], target_path: Optional[str], overwrite: bool, show: bool) -> DataReference:
        target = clean_path(target_path, "target_path")
        skipped = 0
        with Progress("Uploading to %s" % self.name, len(pairs), show) as progress:
            for source, relative in pairs:
                path = "/".join(p for p in (target, relative.replace(os.sep, "/")) if p)
                try:
                    with sdk_errors(doing="cannot upload '%s': " % source):
                        client().upload_data(self.name, path, source, overwrite)
                except OSError as error:
                    raise UserErrorException("cannot upload '%s': %s" % (source, error.strerror), error) from error
                except UserErrorException as error:
                    if overwrite or not isinstance(error.inner_exception, errors.Conflict):
                        raise
                    skipped += 1
                progress.step()
        if show:
            print("Uploaded %d files%s" % (len(pairs) - skipped, ", %d were there already" % skipped if skipped else ""))
        return DataReference(self, None if target is None else uuid.uuid4().hex.translate(_LETTERS), target)

    def download(self, target_path: str, prefix: Optional[str] = None, overwrite: bool = False,
                 show_progress: bool = True) -> int:
        """Copy the files whose path begins with `prefix` (default: all) below `target_path`; how many were copied.

        overwrite: replace local files; otherwise they are left as they are and not counted.
        """
        root = os.path.abspath(target_path)
        wanted = clean_path(prefix, "prefix")
        with sdk_errors():
            paths = [f["path"] for f in client().data(self.name, wanted)]
        count = 0
        with Progress("Downloading from %s" % self.name, len(paths), show_progress) as progress:
            for path in paths:
                count += self._download_one(path, root, overwrite)
                progress.step()
        return count

    def _download_one(self, path: str, root: str, overwrite: bool) -> bool:
        place = os.path.normpath(os.path.join(root, path))
        if os.path.commonpath([root, place]) != root:
            raise UserErrorException("Datastore.download: the file '%s' would be written outside of '%s'" % (path, root))
        if os.path.exists(place) and not overwrite:
            return False
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            with sdk_errors(doing="cannot download '%s': " % path):
                client().download_data(self.name, path, place)
        except OSError as error:
            raise UserErrorException("cannot write '%s': %s" % (place, error.strerror), error) from error
        return True

    def __repr__(self) -> str:
        return "Datastore(workspace=%r, name='%s')" % (self.workspace, self.name)


def _find(name: Optional[str]) -> Dict[str, Any]:
    with sdk_errors():
        records = client().datastores()
    for record in records:
        if record.get("default") if name is None else record["name"].lower() == name.lower():
            return record
    raise UserErrorException("there is no datastore '%s'; there are %s" % (
        name or "(default)", ", ".join("'%s'" % r["name"] for r in records) or "none"))
