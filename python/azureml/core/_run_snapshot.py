"""The files that a run was submitted with, and its environment."""
import os
import shutil
import tempfile
import zipfile
from typing import Any, Dict, Optional

from azureml.core._progress import Progress
from azureml.core._service import client, sdk_errors
from azureml.exceptions import RunEnvironmentException, UserErrorException
from trainyard.client import Entry

LINK, FOLDER, FILE = 0o120777, 0o040755, 0o100644
EXECUTABLE = 0o111


class RunSnapshot:
    """Snapshots, and the environment; part of ``Run``."""

    id: str
    _live: Any = None
    _record: Dict[str, Any]

    def get_snapshot_id(self) -> Optional[str]:
        """The id of the stored source_directory."""
        return self._record.get("snapshot") or self._record["properties"].get("ContentSnapshotId")

    def restore_snapshot(self, snapshot_id: Optional[str] = None, path: Optional[str] = None) -> str:
        """Write a snapshot (default: the run's own) as <id>.zip into the folder `path` (default: the current one); the file's path.

        UserErrorException when there is none.
        """
        snapshot = snapshot_id or self.get_snapshot_id()
        if snapshot is None:
            raise UserErrorException("the run '%s' has no snapshot to restore" % self.id)
        with sdk_errors(doing="cannot restore the snapshot: "):
            found = client().manifest(snapshot)
        place = os.path.join(os.path.abspath(path or "."), "%s.zip" % snapshot)
        try:
            os.makedirs(os.path.dirname(place), exist_ok=True)
            fd, temporary = tempfile.mkstemp(dir=os.path.dirname(place), suffix=".part")
        except OSError as error:
            raise UserErrorException("restore_snapshot: cannot write '%s': %s" % (place, error.strerror), error) from None
        try:
            with open(fd, "wb") as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out, Progress("Restoring", len(found)) as bar:
                for entry in found:
                    _add(out, snapshot, entry)
                    bar.step()
            os.chmod(temporary, 0o644)
            os.replace(temporary, place)
        except BaseException:
            os.unlink(temporary)
            raise
        return place

    def take_snapshot(self, file_or_folder_path: str) -> str:
        """Store a file or a folder as a snapshot, and return its id. The run names it, as the property ContentSnapshotId, when it has no
        other."""
        from azureml.core._submit import store_snapshot

        if not os.path.exists(file_or_folder_path):
            raise UserErrorException("take_snapshot: '%s' does not exist" % file_or_folder_path)
        if os.path.isdir(file_or_folder_path):
            snapshot = store_snapshot(file_or_folder_path, None)
        else:
            with tempfile.TemporaryDirectory() as folder:
                shutil.copy(file_or_folder_path, folder)
                snapshot = store_snapshot(folder, None)
        if self.get_snapshot_id() is None:
            self.add_properties({"ContentSnapshotId": snapshot})  # type: ignore[attr-defined]
        return snapshot

    def get_environment(self) -> Any:
        """The Environment that the run was submitted with. RunEnvironmentException for a run that has none, such as one without a script."""
        from azureml.core.environment import environment_of

        record = self._record if "spec" in self._record else self._refresh()  # type: ignore[attr-defined]
        kept = ((record["spec"].get("azureml") or {}).get("runDefinition") or {}).get("environment")
        if not kept:
            raise RunEnvironmentException("the run '%s' has no environment: it was not submitted with one" % self.id)
        return environment_of(kept, "the environment of run '%s'" % self.id)


def _add(out: zipfile.ZipFile, snapshot: str, entry: Entry) -> None:
    info = zipfile.ZipInfo(entry.path + ("/" if entry.kind == "d" else ""))
    info.compress_type = zipfile.ZIP_DEFLATED
    info.create_system = 3  # Unix: external_attr holds a mode
    mode = {"l": LINK, "d": FOLDER}.get(entry.kind, FILE | (EXECUTABLE if entry.executable else 0))
    info.external_attr = mode << 16
    if entry.kind == "f":
        with sdk_errors(doing="cannot restore '%s': " % entry.path):
            out.writestr(info, client().snapshot_file(snapshot, entry.path))
    else:
        out.writestr(info, entry.target)
