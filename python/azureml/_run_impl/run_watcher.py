"""Following the files of a run comes with a later release; the name imports, and says so on first use."""
from azureml.core._later import later_name

__all__ = ["RunWatcher"]

RunWatcher = later_name(
    __name__ + ".RunWatcher",
    "copying the files of a run while it goes on", "use run.download_files() when it has ended")
