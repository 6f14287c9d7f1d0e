"""A path in a datastore, without a decision how a run gets it."""
from typing import TYPE_CHECKING, Any, Optional

from azureml.data.data_reference import DataReference, clean_path
from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from azureml.core.datastore import Datastore


class DataPath:
    """`path_on_datastore` (default: the root) of `datastore`; `name` is a name for people."""

    def __init__(self, datastore: "Optional[Datastore]" = None, path_on_datastore: Optional[str] = None,
                 name: Optional[str] = None) -> None:
        self.datastore = datastore
        self.path_on_datastore = clean_path(path_on_datastore, "DataPath: path_on_datastore")
        self._name = name

    @property
    def datastore_name(self) -> Optional[str]:
        """The datastore's name, or None."""
        return None if self.datastore is None else self.datastore.name

    def create_data_reference(self, data_reference_name: Optional[str] = None,
                              datapath_compute_binding: "Optional[DataPathComputeBinding]" = None) -> DataReference:
        """A reference to the path, in the mode of the binding (default: mount)."""
        if self.datastore is None:
            raise UserErrorException("DataPath: it names no datastore, so a run cannot get it")
        how = datapath_compute_binding or DataPathComputeBinding()
        return DataReference(self.datastore, data_reference_name or self._name, self.path_on_datastore, how.mode,
                             how.path_on_compute, how.overwrite)


class DataPathComputeBinding:
    """How a run gets a DataPath: mode, path_on_compute, overwrite as in DataReference."""

    def __init__(self, mode: str = "mount", path_on_compute: Optional[str] = None, overwrite: bool = False, **_: Any) -> None:
        self.mode = mode
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite
