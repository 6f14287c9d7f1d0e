"""Datastores: named storage that scripts read data from and write data to: folders, S3 buckets, Azure blob containers."""
import os
import re
import uuid
from typing import TYPE_CHECKING, Any, Dict, Iterable, List, Optional, Tuple

from azureml.core._progress import Progress
from azureml.core._service import client, cloud_only, sdk_errors
from azureml.data.data_reference import _LETTERS, DataReference, clean_path
from azureml.exceptions import UserErrorException
from trainyard import errors, objects

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace

MEGABYTE = 1 << 20
_NAME = re.compile(r"[A-Za-z0-9_]{1,255}\Z")


class Datastore:
    """A datastore that exists: ``Datastore(workspace, name)``; without a name the default one.

    What it gives is an AzureBlobDatastore, an AzureFileDatastore or an S3Datastore. Names do not distinguish upper and lower case.
    Credentials are kept by the service, sealed, and are in no text that this object makes. UserErrorException for an unknown name.
    """

    _record: Dict[str, Any]

    def __new__(cls, workspace: Any = None, name: Optional[str] = None, _record: Optional[Dict[str, Any]] = None) -> "Datastore":
        from azureml.data.azure_storage_datastore import kind_of

        if cls is not Datastore:
            return super().__new__(cls)
        if name is not None and not isinstance(name, str):
            raise UserErrorException("Datastore: name is of type %s; a text is needed" % type(name).__name__)
        record = _record or _find(name)
        made = super().__new__(kind_of(record))
        made._record = record
        return made

    def __init__(self, workspace: "Workspace", name: Optional[str] = None, _record: Optional[Dict[str, Any]] = None) -> None:
        record = _record or self.__dict__.get("_record") or _find(name)
        self._record = record
        self.workspace = workspace
        self.name: str = record["name"]
        self.is_default: bool = bool(record.get("default"))
        self._kind: str = record["kind"]
        self._config: Dict[str, Any] = dict(record.get("config") or {})
        self._root: str = record.get("root") or ""

    @staticmethod
    def _of(workspace: "Workspace", record: Dict[str, Any]) -> "Datastore":
        return Datastore(workspace, record["name"], _record=record)

    @staticmethod
    def get(workspace: "Workspace", datastore_name: str) -> "Datastore":
        """The datastore of that name. UserErrorException when there is none."""
        return Datastore(workspace, datastore_name)

    @staticmethod
    def get_default(workspace: "Workspace") -> "Datastore":
        """The default datastore: ``workspaceblobstore`` until another is made it."""
        return Datastore(workspace)

    # Registering

    @staticmethod
    def register_azure_blob_container(workspace: "Workspace", datastore_name: str, container_name: str, account_name: str,
                                      sas_token: Optional[str] = None, account_key: Optional[str] = None, protocol: Optional[str] = None,
                                      endpoint: Optional[str] = None, overwrite: bool = False, create_if_not_exists: bool = False,
                                      skip_validation: bool = False, blob_cache_timeout: Optional[int] = None,
                                      grant_workspace_access: bool = False, subscription_id: Optional[str] = None,
                                      resource_group: Optional[str] = None, prefix: Optional[str] = None) -> "Datastore":
        """Register a container of Azure Blob Storage, or of what speaks like it.

        sas_token or account_key: who may use it; neither: it is public. protocol: 'https' (default) or 'http'. endpoint: default
        'core.windows.net'; else the whole address of the account too, as 'http://127.0.0.1:10000/devstoreaccount1'. overwrite: replace a
        datastore of that name. create_if_not_exists: make the container. skip_validation: do not ask it now. prefix (Trainyard's
        own): the folder in the container that is the datastore's root. UserErrorException for what is refused, by the store too.
        """
        for name, given in (("blob_cache_timeout", blob_cache_timeout), ("grant_workspace_access", grant_workspace_access),
                            ("subscription_id", subscription_id), ("resource_group", resource_group)):
            cloud_only("Datastore.register_azure_blob_container: %s" % name, bool(given))
        return _register(workspace, "Datastore.register_azure_blob_container", datastore_name, "azureblob", {
            "container_name": container_name, "account_name": account_name, "sas_token": _token(sas_token), "account_key": account_key,
            "protocol": protocol, "endpoint": endpoint, "prefix": prefix}, overwrite, create_if_not_exists, skip_validation)

    @staticmethod
    def register_azure_file_share(workspace: "Workspace", datastore_name: str, file_share_name: str, account_name: str,
                                  sas_token: Optional[str] = None, account_key: Optional[str] = None, protocol: Optional[str] = None,
                                  endpoint: Optional[str] = None, overwrite: bool = False, create_if_not_exists: bool = False,
                                  skip_validation: bool = False, root: Optional[str] = None) -> "Datastore":
        """Register a file share of Azure, which is mounted on the machines in the folder `root` (Trainyard's own).

        Trainyard mounts no shares: without `root` UserErrorException, which says how. Credentials are not kept.
        """
        return _register(workspace, "Datastore.register_azure_file_share", datastore_name, "azurefile", {
            "file_share_name": file_share_name, "account_name": account_name, "sas_token": _token(sas_token), "account_key": account_key,
            "protocol": protocol, "endpoint": endpoint, "root": root}, overwrite, create_if_not_exists, skip_validation)

    @staticmethod
    def register_s3_bucket(workspace: "Workspace", datastore_name: str, bucket_name: str, access_key_id: Optional[str] = None,
                           secret_access_key: Optional[str] = None, session_token: Optional[str] = None, region: Optional[str] = None,
                           endpoint: Optional[str] = None, path_style: Optional[bool] = None, prefix: Optional[str] = None,
                           overwrite: bool = False, create_if_not_exists: bool = False, skip_validation: bool = False) -> "Datastore":
        """Register a bucket of S3, or of what speaks like it (Trainyard's own).

        Without keys it is asked unsigned, as public buckets are. endpoint: 'http[s]://host[:port]' of another server than AWS's;
        path_style: its buckets are parts of the path (default with an endpoint). The others as for blob containers.
        """
        return _register(workspace, "Datastore.register_s3_bucket", datastore_name, "s3", {
            "bucket": bucket_name, "access_key_id": access_key_id, "secret_access_key": secret_access_key, "session_token": session_token,
            "region": region, "endpoint": endpoint, "path_style": path_style, "prefix": prefix}, overwrite, create_if_not_exists,
            skip_validation)

    @staticmethod
    def register_folder(workspace: "Workspace", datastore_name: str, root: str, overwrite: bool = False, create_if_not_exists: bool = False,
                        skip_validation: bool = False) -> "Datastore":
        """Register a folder of this machine, or one that all machines have, by its absolute path (Trainyard's own)."""
        return _register(workspace, "Datastore.register_folder", datastore_name, "file", {"root": os.fspath(root)}, overwrite,
                         create_if_not_exists, skip_validation)

    def unregister(self) -> None:
        """Forget the datastore; its data stays. UserErrorException while runs use it, and for the default one and the service's own."""
        with sdk_errors():
            client().delete_datastore(self.name)

    def set_as_default(self) -> None:
        """Make it the datastore that scripts use when they name none."""
        with sdk_errors():
            client().set_default_datastore(self.name)
        self.is_default = True

    # What notebooks read

    @property
    def datastore_type(self) -> str:
        """'AzureBlob', 'AzureFile' or 'S3'. A folder is 'AzureBlob': scripts branch on the cloud's words."""
        return "AzureBlob"

    @property
    def account_name(self) -> str:
        """The account; of a folder 'local': there is none."""
        return self._config.get("account_name") or "local"

    @property
    def container_name(self) -> str:
        """The container, bucket or share; of a folder the folder that holds the files."""
        return self._config.get("container_name") or self._config.get("bucket") or self._config.get("file_share_name") or self._root

    @property
    def account_key(self) -> str:
        """The key of the account, which the service is asked for; '' when it has none."""
        return self._secret("account_key")

    @property
    def sas_token(self) -> str:
        """The SAS, which the service is asked for; '' when it has none."""
        return self._secret("sas_token")

    @property
    def protocol(self) -> str:
        """'https' or 'http'; of a folder 'file'."""
        return "file" if self._root else self._config.get("protocol") or (self.endpoint.partition("://")[0] or "https")

    @property
    def endpoint(self) -> str:
        """Where the store is; of a folder '': there is none."""
        return self._config.get("endpoint") or ""

    def _secret(self, name: str) -> str:
        if self._root:
            return ""
        with sdk_errors():
            return client().access(self.name)["config"].get(name) or ""

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
        wanted = [(source, "/".join(p for p in (target, relative.replace(os.sep, "/")) if p)) for source, relative in pairs]
        moved = self._send(wanted, overwrite, show) if self._root else self._send_objects(wanted, overwrite, show)
        if show:
            print("Uploaded %d files%s" % (moved, ", %d were there already" % (len(pairs) - moved) if moved < len(pairs) else ""))
        return DataReference(self, None if target is None else uuid.uuid4().hex.translate(_LETTERS), target)

    def _send(self, wanted: List[Tuple[str, str]], overwrite: bool, show: bool) -> int:
        moved = 0
        with Progress("Uploading to %s" % self.name, len(wanted), show) as progress:
            for source, path in wanted:
                try:
                    with sdk_errors(doing="cannot upload '%s': " % source):
                        client().upload_data(self.name, path, source, overwrite)
                    moved += 1
                except OSError as error:
                    raise UserErrorException("cannot upload '%s': %s" % (source, error.strerror), error) from error
                except UserErrorException as error:
                    if overwrite or not isinstance(error.inner_exception, errors.Conflict):
                        raise
                progress.step()
        return moved

    def _send_objects(self, wanted: List[Tuple[str, str]], overwrite: bool, show: bool) -> int:
        with sdk_errors(), Progress("Uploading to %s" % self.name, 1, show, MEGABYTE, " MB") as progress:
            files = [{"local": os.path.abspath(source), "path": path} for source, path in wanted]
            return objects.put(client().access(self.name), files, overwrite, progress.at).moved

    def download(self, target_path: str, prefix: Optional[str] = None, overwrite: bool = False,
                 show_progress: bool = True) -> int:
        """Copy the files whose path begins with `prefix` (default: all) below `target_path`; how many were copied.

        overwrite: replace local files; otherwise they are left as they are and not counted.
        """
        root = os.path.abspath(target_path)
        wanted = clean_path(prefix, "prefix")
        if not self._root:
            return self._fetch_objects(root, wanted or "", overwrite, show_progress)
        with sdk_errors():
            paths = [f["path"] for f in client().data(self.name, wanted)]
        count = 0
        with Progress("Downloading from %s" % self.name, len(paths), show_progress) as progress:
            for path in paths:
                count += self._download_one(path, root, overwrite)
                progress.step()
        return count

    def _fetch_objects(self, root: str, wanted: str, overwrite: bool, show: bool) -> int:
        """What is there with the same content counts as copied if it might have been replaced."""
        with sdk_errors(), Progress("Downloading from %s" % self.name, 1, show, MEGABYTE, " MB") as progress:
            access = client().access(self.name)
            try:
                moved = objects.get(access, wanted, os.path.join(root, wanted) if wanted else root, overwrite, progress.at)
            except errors.NotFound:
                files = [{"path": f["path"], "local": os.path.join(root, f["path"])} for f in objects.ls(access, wanted)]
                moved = objects.get_files(access, files, overwrite, progress.at)
        return moved.moved + (moved.same if overwrite else 0)

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


def _register(workspace: "Workspace", what: str, name: Any, kind: str, config: Dict[str, Any], overwrite: bool, make: bool,
              unseen: bool) -> Datastore:
    if not isinstance(name, str):
        raise UserErrorException("%s: datastore_name is of type %s; a text is needed" % (what, type(name).__name__))
    if not _NAME.match(name):
        raise UserErrorException("%s: datastore_name is %.100r; it has 1 to 255 letters, digits or '_'" % (what, name))
    for key, value in config.items():
        if value is not None and not isinstance(value, bool if key == "path_style" else str):
            raise UserErrorException("%s: %s is of type %s; a text is needed" % (what, key, type(value).__name__))
    with sdk_errors():
        there = next((d["name"] for d in client().datastores() if d["name"].lower() == name.lower()), name)
        record = client().put_datastore(there, kind, config, overwrite, make, unseen)
    return Datastore._of(workspace, record)


def _token(sas: Optional[str]) -> Optional[str]:
    """As portals show it, with a '?' before it, or without."""
    return sas[1:] if isinstance(sas, str) and sas.startswith("?") else sas


def _find(name: Optional[str]) -> Dict[str, Any]:
    with sdk_errors():
        records = client().datastores()
    for record in records:
        if record.get("default") if name is None else record["name"].lower() == name.lower():
            return record
    raise UserErrorException("there is no datastore '%s'; there are %s" % (
        name or "(default)", ", ".join("'%s'" % r["name"] for r in records) or "none"))
