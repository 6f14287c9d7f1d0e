"""How a run gets a dataset: under which name, in its reach or as a copy, and where."""
import os
import re
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from azureml.core._service import later
from azureml.data import _paths
from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from azureml.core.runconfig import DataReferenceConfiguration
    from azureml.data.file_dataset import FileDataset

__all__ = ["DatasetConsumptionConfig"]

NAMES = "AZUREML_DATASET_NAMES"  # variable of a job: the names of its datasets, with ',' between
FOLDER = ".datasets"  # in the job's working directory: where datasets of several pieces are put together
WORK = "$AZUREML_SCRIPT_DIRECTORY_NAME"
MODES = ("direct", "mount", "download")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,199}\Z")


class DatasetConsumptionConfig:
    """A dataset under a name. In arguments it stands for the directory; `mode` is 'mount' (also 'direct') or 'download'.

    path_on_compute: where the directory is, absolute or in the job's working directory (default: chosen by the service).
    """

    def __init__(self, name: str, dataset: "FileDataset", mode: str = "direct", path_on_compute: Optional[str] = None) -> None:
        from azureml.data.file_dataset import FileDataset

        if not isinstance(name, str) or not _NAME.match(name):
            raise UserErrorException("the name of a dataset's input is %r; it has letters, digits or '_', and does not begin with a digit"
                                     % (name,))
        if not isinstance(dataset, FileDataset):
            raise UserErrorException("DatasetConsumptionConfig '%s': dataset is of type %s; a FileDataset is needed" % (name, type(dataset).__name__))
        if str(mode).lower() not in MODES:
            raise UserErrorException("DatasetConsumptionConfig '%s': mode is %r, and may be 'mount' or 'download'" % (name, mode))
        self.name = name
        self.dataset = dataset
        self.mode = str(mode).lower()
        self.path_on_compute = None if path_on_compute is None else str(path_on_compute)

    def as_mount(self, path_on_compute: Optional[str] = None) -> "DatasetConsumptionConfig":
        """The files in the run's reach, without copying where that can be."""
        return DatasetConsumptionConfig(self.name, self.dataset, "mount", path_on_compute or self.path_on_compute)

    def as_download(self, path_on_compute: Optional[str] = None) -> "DatasetConsumptionConfig":
        """A copy of the files for the run."""
        return DatasetConsumptionConfig(self.name, self.dataset, "download", path_on_compute or self.path_on_compute)

    def as_hdfs(self) -> Any:
        """Spark is not there: UserErrorException."""
        raise later("DatasetConsumptionConfig.as_hdfs", "use as_mount() or as_download()")

    def _parts(self) -> "Tuple[Dict[str, DataReferenceConfiguration], str]":
        """The data references that bring it, and the directory as a job names it."""
        from azureml.core.runconfig import DataReferenceConfiguration

        mode = "download" if self.mode == "download" else "mount"
        pieces = _paths.pieces(self.dataset._resolved(), "the dataset '%s'" % self.name)
        if len(pieces) == 1 and pieces[0].place == "":
            one = pieces[0]
            return {self.name: DataReferenceConfiguration(one.datastore.name, mode, one.path, self.path_on_compute)}, (
                "$AZUREML_DATAREFERENCE_%s" % self.name)
        base = self.path_on_compute or "%s/%s" % (FOLDER, self.name)
        found: Dict[str, DataReferenceConfiguration] = {}
        for i, piece in enumerate(pieces, 1):
            # A file arrives under its own name in the folder that a download names; a mount is that of its folder or a link.
            how = mode if piece.datastore._root else "download"
            place = os.path.join(base, os.path.dirname(piece.place) if piece.is_file and how == "download" else piece.place).rstrip("/")
            found["%s__%d" % (self.name, i)] = DataReferenceConfiguration(piece.datastore.name, how, piece.path, place)
        return found, base if os.path.isabs(base) else "%s/%s" % (WORK, base)

    def _as_dict(self) -> Dict[str, Any]:
        """As ``runDefinition`` has it."""
        return {"dataset": {"id": self.dataset.id, "name": self.dataset.name, "version": self.dataset.version}, "mechanism": self.mode.capitalize(),
                "environmentVariableName": self.name, "pathOnCompute": self.path_on_compute}

    def __str__(self) -> str:
        return "${%s}" % self.name

    def __repr__(self) -> str:
        return "DatasetConsumptionConfig(name=%r, mode=%r, dataset=%r)" % (self.name, self.mode, self.dataset)


class InputPath(str):
    """The directory or file of a dataset in a run."""

    def to_path(self) -> List[str]:
        """Its files, relative, with '/' before each."""
        if os.path.isfile(self):
            return ["/" + os.path.basename(self)]
        found = [os.path.join(folder, name) for folder, _, names in os.walk(self, followlinks=True) for name in names]
        return sorted("/" + os.path.relpath(f, self) for f in found)

    def download(self, target_path: Optional[str] = None, overwrite: bool = False, **_: Any) -> List[str]:
        """They are here already: where they are. With target_path they are copied there."""
        import shutil

        root = os.path.dirname(self) if os.path.isfile(self) else str(self)
        places = [p[1:] for p in self.to_path()]
        for place in places if target_path is not None else ():
            to = os.path.join(str(target_path), place)
            if os.path.lexists(to) and not overwrite:
                raise UserErrorException("'%s' is there already; give overwrite=True to replace it" % to)
            os.makedirs(os.path.dirname(to) or ".", exist_ok=True)
            shutil.copyfile(os.path.join(root, place), to)
        return [os.path.join(str(target_path) if target_path is not None else root, place) for place in places]


class InputDatasets(Dict[str, Any]):
    """``run.input_datasets``: name -> the directory, as text."""

    def __missing__(self, name: str) -> str:
        raise KeyError("the run has no dataset '%s'; it has %s" % (name, ", ".join("'%s'" % n for n in self) or "none"))


def of_environment() -> InputDatasets:
    """Those of the job that this process is part of."""
    names = [n for n in os.environ.get(NAMES, "").split(",") if n]
    return InputDatasets((name, InputPath(os.environ[name])) for name in names if name in os.environ)
