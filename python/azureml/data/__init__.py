"""References to data in datastores, and datasets of files. Tables come with a later release; the names import, and say so on first use."""
from typing import Any

from azureml.core._later import later_names

__all__ = ["FileDataset", "OutputFileDatasetConfig", "TabularDataset"]

(OutputFileDatasetConfig, TabularDataset) = later_names(
    __name__, "OutputFileDatasetConfig TabularDataset", "a dataset that is no set of files", "use Dataset.File.from_files for data that is "
    "read, and datastore.path('x').as_upload() for what a run writes")


def __getattr__(name: str) -> Any:
    if name == "FileDataset":  # it needs modules that need this one
        from azureml.data.file_dataset import FileDataset

        return FileDataset
    raise AttributeError("module '%s' has no attribute '%s'" % (__name__, name))
