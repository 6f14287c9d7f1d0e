"""The files of a run."""
import os
from typing import Any, BinaryIO, Dict, List, Optional, Sequence, Union

from azureml.core._progress import Progress
from azureml.core._service import client, sdk_errors
from azureml.exceptions import UserErrorException


class RunFiles:
    """Listing, downloading and adding files; part of ``Run``."""

    id: str

    def _files(self) -> List[Dict[str, Any]]:
        with sdk_errors():
            return client().files(self.id)

    def get_file_names(self) -> List[str]:
        """The paths of the run's logs and artifacts, for example 'outputs/model.pt'."""
        return [f["path"] for f in self._files()]

    def download_file(self, name: str, output_file_path: Optional[str] = None, **_: Any) -> None:
        """Write one file of the run.

        output_file_path: a file, or a folder that exists (default: the file's own name in the current folder).
        UserErrorException when the run has no such file or it cannot be written.
        """
        base = os.path.basename(str(name))
        place = os.fspath(output_file_path) if output_file_path is not None else base
        if os.path.isdir(place) or place.endswith(os.sep):
            place = os.path.join(place, base)
        self._fetch(name, place)

    def download_files(self, prefix: Optional[str] = None, output_directory: Optional[str] = None,
                       output_paths: Union[Sequence[str], str, None] = None, batch_size: int = 100, append_prefix: bool = True,
                       timeout_seconds: Optional[int] = None) -> None:
        """Write all files of the run whose path begins with `prefix` below `output_directory` (default: the current folder).

        output_paths: instead of it, one path per file in the order of get_file_names(). append_prefix: False leaves `prefix` out
        of the written paths.
        """
        names = [n for n in self.get_file_names() if n.startswith(prefix or "")]
        if output_paths is not None:
            paths = [output_paths] if isinstance(output_paths, str) else list(output_paths)
            if output_directory is not None or len(paths) != len(names):
                raise UserErrorException("download_files: give output_directory, or %d output_paths (one per file); there are %d"
                                         % (len(names), len(paths)))
        else:
            cut = 0 if append_prefix or not prefix else len(prefix)
            root = os.path.abspath(output_directory or ".")
            paths = [_below(root, n[cut:].lstrip("/") or os.path.basename(n)) for n in names]
        with Progress("Downloading", len(names)) as progress:
            for name, place in zip(names, paths):
                self._fetch(name, place)
                progress.step()

    def _fetch(self, name: str, place: str) -> None:
        try:
            os.makedirs(os.path.dirname(os.path.abspath(place)), exist_ok=True)
            with sdk_errors(doing="cannot download '%s': " % name):
                client().download(self.id, str(name), place)
        except OSError as error:
            raise UserErrorException("cannot write '%s': %s" % (place, error.strerror), error) from error

    def upload_file(self, name: str, path_or_stream: Union[str, BinaryIO], datastore_name: Optional[str] = None) -> None:
        """Add a file to the run as `name`, from a path or a stream of bytes. UserErrorException when it has another one of that name."""
        try:
            with sdk_errors(doing="cannot upload '%s': " % name):
                client().upload(self.id, str(name), path_or_stream)
        except OSError as error:
            raise UserErrorException("upload_file: '%s' cannot be read: %s" % (path_or_stream, error.strerror), error) from error

    def upload_files(self, names: Sequence[str], paths: Sequence[str], datastore_name: Optional[str] = None, **_: Any) -> None:
        """Add several files; `names` and `paths` are of one length."""
        if isinstance(names, str) or isinstance(paths, str) or len(names) != len(paths):
            raise UserErrorException("upload_files: names and paths are lists of one length")
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str, datastore_name: Optional[str] = None) -> None:
        """Add the files below the folder `path` as `name`/..."""
        if not os.path.isdir(path):
            raise UserErrorException("upload_folder: '%s' is not a folder" % path)
        for folder, _, files in sorted(os.walk(path)):
            for file in sorted(files):
                place = os.path.join(folder, file)
                self.upload_file("%s/%s" % (name.rstrip("/"), os.path.relpath(place, path)), place)


def _below(root: str, relative: str) -> str:
    place = os.path.normpath(os.path.join(root, relative))
    if os.path.commonpath([root, place]) != root:
        raise UserErrorException("download_files: '%s' would be written outside of '%s'" % (relative, root))
    return place
