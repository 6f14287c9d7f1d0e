"""What ``FileDataset.mount()`` gives: its files in a folder, as long as it is open."""
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, Optional

from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from azureml.data.file_dataset import FileDataset

__all__ = ["MountContext"]


class MountContext:
    """``with dataset.mount() as mounted: os.listdir(mounted.mount_point)``, or ``start()`` and ``stop()``.

    The files are copies, which are removed at the end: what is written there does not go back.
    """

    def __init__(self, dataset: "FileDataset", mount_point: Optional[str] = None) -> None:
        self._dataset = dataset
        self._made = False
        self._chosen = None if mount_point is None else os.path.abspath(mount_point)
        self.mount_point: str = self._chosen or tempfile.mkdtemp(prefix="dataset-")

    def start(self) -> None:
        """Bring the files. UserErrorException when the folder has others, or when one cannot be had."""
        if self._made:
            return
        if os.path.lexists(self.mount_point) and (not os.path.isdir(self.mount_point) or os.listdir(self.mount_point)):
            raise UserErrorException("FileDataset.mount: '%s' is no empty folder; choose another mount_point" % self.mount_point)
        self._made = True
        self._dataset.download(self.mount_point)

    def stop(self) -> None:
        """Remove them, and the folder."""
        if self._made or self._chosen is None:
            shutil.rmtree(self.mount_point, ignore_errors=True)
        self._made = False

    def __enter__(self) -> "MountContext":
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()
