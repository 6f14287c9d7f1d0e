"""A directory or file of a datastore that a run gets.

``str(reference)`` is the placeholder ``$AZUREML_DATAREFERENCE_<name>``: put into an argument, it becomes the directory on the
worker, in each process.
"""
import re
import uuid
from typing import TYPE_CHECKING, Any, Optional

from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from azureml.core.datastore import Datastore
    from azureml.core.runconfig import DataReferenceConfiguration

MODES = ("mount", "download", "upload")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")


class DataReference:
    """Where data is and how a run gets it.

    datastore: a Datastore. data_reference_name: letters, digits and '_' (default: the datastore's name). path_on_datastore:
    relative to its root. mode: 'mount' (default), 'download' or 'upload'. path_on_compute: where in the job's directory
    (default: chosen by the service). overwrite: replace what is there. UserErrorException for values that cannot be.
    """

    def __init__(self, datastore: "Datastore", data_reference_name: Optional[str] = None, path_on_datastore: Optional[str] = None,
                 mode: str = "mount", path_on_compute: Optional[str] = None, overwrite: bool = False) -> None:
        from azureml.core.datastore import Datastore

        if not isinstance(datastore, Datastore):
            raise UserErrorException("DataReference: datastore is of type %s; a Datastore is needed, for example "
                                     "ws.get_default_datastore()" % type(datastore).__name__)
        name = data_reference_name or datastore.name
        if not isinstance(name, str) or not _NAME.match(name):
            raise UserErrorException("DataReference: data_reference_name is %r; it has letters, digits or '_', and does not begin "
                                     "with a digit" % (name,))
        if str(mode).lower() not in MODES:
            raise UserErrorException("DataReference '%s': mode is %r, and may be 'mount', 'download' or 'upload'" % (name, mode))
        self.datastore = datastore
        self.data_reference_name = name
        self.path_on_datastore = clean_path(path_on_datastore, "DataReference '%s': path_on_datastore" % name)
        self.mode = str(mode).lower()
        self.path_on_compute = None if path_on_compute is None else str(path_on_compute)
        self.overwrite = bool(overwrite)

    def path(self, path: Optional[str] = None, data_reference_name: Optional[str] = None) -> "DataReference":
        """A reference to `path` below this one, with a name of its own (default: generated)."""
        joined = "/".join(p for p in (self.path_on_datastore, clean_path(path, "path")) if p)
        return DataReference(self.datastore, data_reference_name or uuid.uuid4().hex.translate(_LETTERS), joined, self.mode,
                             self.path_on_compute, self.overwrite)

    def as_mount(self) -> "DataReference":
        """The same data in the run's reach without copying."""
        return self._with("mount", None, False)

    def as_download(self, path_on_compute: Optional[str] = None, overwrite: bool = False) -> "DataReference":
        """The same data, copied for the run before it starts."""
        return self._with("download", path_on_compute, overwrite)

    def as_upload(self, path_on_compute: Optional[str] = None, overwrite: bool = False) -> "DataReference":
        """A directory or file of the run that is copied to the datastore after the script."""
        return self._with("upload", path_on_compute, overwrite)

    def _with(self, mode: str, path_on_compute: Optional[str], overwrite: bool) -> "DataReference":
        return DataReference(self.datastore, self.data_reference_name, self.path_on_datastore, mode,
                             path_on_compute or self.path_on_compute, overwrite or self.overwrite)

    def to_config(self) -> "DataReferenceConfiguration":
        """The same for ``run_config.data_references``."""
        from azureml.core.runconfig import DataReferenceConfiguration

        return DataReferenceConfiguration(self.datastore.name, self.mode, self.path_on_datastore, self.path_on_compute,
                                          self.overwrite)

    def __str__(self) -> str:
        return "$AZUREML_DATAREFERENCE_%s" % self.data_reference_name

    def __repr__(self) -> str:
        return str(self)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, DataReference) and vars(self.to_config()) == vars(other.to_config()) and (
            self.data_reference_name == other.data_reference_name)

    def __hash__(self) -> int:
        return hash((self.data_reference_name, self.path_on_datastore, self.mode))


_LETTERS = str.maketrans("0123456789", "ghijklmnop")  # a generated name must not begin with a digit


def clean_path(path: Optional[str], what: str) -> Optional[str]:
    """A path relative to a datastore's root, without '.' and doubled slashes; None for the root.

    A leading slash means the root, as in the cloud. UserErrorException for '..' and for what is no text.
    """
    if path is None:
        return None
    if not isinstance(path, str):
        raise UserErrorException("%s is of type %s; a text is needed" % (what, type(path).__name__))
    parts = [p for p in path.replace("\\", "/").split("/") if p not in ("", ".")]
    if ".." in parts:
        raise UserErrorException("%s is '%s'; a path inside the datastore has no '..'" % (what, path))
    return "/".join(parts) or None
