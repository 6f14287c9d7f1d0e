"""References to data in datastores. Datasets come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_names

__all__ = ["FileDataset", "OutputFileDatasetConfig", "TabularDataset"]

(FileDataset, OutputFileDatasetConfig, TabularDataset) = later_names(
    __name__, "FileDataset OutputFileDatasetConfig TabularDataset",
    "a dataset", "use a datastore: ws.get_default_datastore().path('x').as_mount()")
