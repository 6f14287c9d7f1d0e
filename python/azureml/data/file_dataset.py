"""FileDataset: files of datastores, of the web or of this machine, as one thing that runs are given."""
import hashlib
import http.client
import os
import posixpath
import random
import tempfile
import urllib.error
import urllib.request
import uuid
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence, Tuple, Union
from urllib.parse import unquote, urlsplit

from azureml.core._service import client, later, sdk_errors
from azureml.data import _paths
from azureml.data._mounted import MountContext
from azureml.data.data_reference import clean_path
from azureml.data.datapath import DataPath
from azureml.data.dataset_consumption_config import DatasetConsumptionConfig
from azureml.exceptions import UserErrorException
from trainyard import objects
from trainyard.client import Record

if TYPE_CHECKING:
    from azureml.core.datastore import Datastore
    from azureml.core.workspace import Workspace

__all__ = ["FileDataset"]

KEPT = "datasets"  # where the default datastore keeps what came from the web or from this machine
URL_SECONDS = 60
CHUNK = 1 << 20
_NAMESPACE = uuid.UUID("7d0cd30f-0b3a-4f7e-9b51-63b6d1a3c1f5")

Source = Union[str, Tuple["Datastore", str]]


class FileDataset:
    """Files, by paths and patterns in datastores. ``Dataset.File.from_files`` and ``Dataset.get_by_name`` make it.

    A run sees one directory: of a single folder or file that itself; of several paths or patterns the files below the folder which
    the paths have in common, each at its place there.
    """

    def __init__(self, sources: Sequence[Source], workspace: "Optional[Workspace]" = None, record: Optional[Record] = None) -> None:
        self._sources = list(sources)
        self._workspace = workspace
        self._take(record)

    def _take(self, record: Optional[Record]) -> None:
        about = ((record or {}).get("content") or {}).get("about") or {}
        self.name: Optional[str] = record["name"] if record else None
        self.version: Optional[int] = record["version"] if record else None
        self.description: Optional[str] = about.get("description")
        self.tags: Dict[str, str] = dict(about.get("tags") or {})

    @property
    def id(self) -> Optional[str]:
        """Of one that is registered, for ``Dataset.get_by_id``."""
        return None if self.name is None else id_of(self.name, self.version or 0)

    # Where its files are

    def _resolved(self) -> List[_paths.Path]:
        """Its paths in datastores. What comes from the web or from this machine is brought into the default datastore first, once."""
        urls = [s for s in self._sources if isinstance(s, str) and "://" in s]
        if urls:
            self._sources = [s for s in self._sources if s not in urls] + _from_web(urls)
        self._sources = [_from_here(s) if isinstance(s, str) else s for s in self._sources]
        return [s for s in self._sources if not isinstance(s, str)]

    def to_path(self) -> List[str]:
        """The places of its files in the directory that a run sees, with '/' before each."""
        return ["/" + piece.place for piece in _paths.files(self._resolved())]

    def download(self, target_path: Optional[str] = None, overwrite: bool = False, ignore_not_found: bool = False) -> List[str]:
        """Copy its files below `target_path` (default: a new temporary folder); where they are.

        overwrite: replace files that are there; otherwise one of another content is a UserErrorException.
        """
        root = os.path.abspath(target_path) if target_path is not None else tempfile.mkdtemp(prefix="dataset-")
        wanted = _paths.files(self._resolved())
        by_store: Dict[str, List[_paths.Piece]] = {}
        for piece in wanted:
            by_store.setdefault(piece.datastore.name, []).append(piece)
        for pieces in by_store.values():
            _fetch(pieces, root, overwrite)
        return [os.path.join(root, piece.place) for piece in wanted]

    # How a run gets it

    def as_named_input(self, name: str) -> DatasetConsumptionConfig:
        """The dataset under a name: ``run.input_datasets[name]`` and the environment variable of that name are the directory."""
        return DatasetConsumptionConfig(name, self)

    def as_mount(self, path_on_compute: Optional[str] = None) -> DatasetConsumptionConfig:
        """The dataset in the run's reach, under a generated name."""
        return self.as_named_input("input_" + uuid.uuid4().hex[:8]).as_mount(path_on_compute)

    def as_download(self, path_on_compute: Optional[str] = None) -> DatasetConsumptionConfig:
        """A copy of the dataset for the run, under a generated name."""
        return self.as_named_input("input_" + uuid.uuid4().hex[:8]).as_download(path_on_compute)

    def as_hdfs(self) -> Any:
        """Spark is not there: UserErrorException."""
        raise later("FileDataset.as_hdfs", "use as_mount() or as_download()")

    def mount(self, mount_point: Optional[str] = None, **_: Any) -> MountContext:
        """Its files in `mount_point` (default: a new temporary folder), from ``start()`` to ``stop()`` or in a ``with``; as copies."""
        return MountContext(self, mount_point)

    # Parts of it

    def _of(self, pieces: Sequence[_paths.Piece]) -> "FileDataset":
        return FileDataset([(p.datastore, _paths.literal(p.path)) for p in pieces], self._workspace)

    def take(self, count: int) -> "FileDataset":
        """The first `count` files, in the order of ``to_path()``. UserErrorException when that would be none."""
        return self._part("take", count, lambda files, n: files[:n])

    def skip(self, count: int) -> "FileDataset":
        """All but the first `count` files. UserErrorException when none is left."""
        return self._part("skip", count, lambda files, n: files[n:])

    def _part(self, what: str, count: int, choose: "Callable[[List[_paths.Piece], int], List[_paths.Piece]]") -> "FileDataset":
        if isinstance(count, bool) or not isinstance(count, int) or count < 0:
            raise UserErrorException("FileDataset.%s: count is %r; a whole number from 0 on is needed" % (what, count))
        files = _paths.files(self._resolved())
        chosen = choose(files, count)
        if not chosen:
            raise UserErrorException("FileDataset.%s(%d): of %d files none is left" % (what, count, len(files)))
        return self._of(chosen)

    def random_split(self, percentage: float, seed: Optional[int] = None) -> "Tuple[FileDataset, FileDataset]":
        """Two datasets: about `percentage` (0 to 1) of the files, and the others. The same `seed` gives the same ones."""
        if isinstance(percentage, bool) or not isinstance(percentage, (int, float)) or not 0 < percentage < 1:
            raise UserErrorException("FileDataset.random_split: percentage is %r; a number between 0 and 1 is needed" % (percentage,))
        files = _paths.files(self._resolved())
        first = set(random.Random(seed).sample(range(len(files)), round(len(files) * percentage)))
        parts = [f for i, f in enumerate(files) if i in first], [f for i, f in enumerate(files) if i not in first]
        if not all(parts):
            raise UserErrorException("FileDataset.random_split(%r): of %d files one part would have none" % (percentage, len(files)))
        return self._of(parts[0]), self._of(parts[1])

    # Registering

    def register(self, workspace: "Workspace", name: str, description: Optional[str] = None, tags: Optional[Dict[str, str]] = None,
                 create_new_version: bool = False) -> "FileDataset":
        """Keep it under `name`; the dataset with its version, which is that of an earlier one that has the same paths.

        create_new_version: when the name is there with other paths, which is a UserErrorException otherwise.
        """
        if not isinstance(name, str) or "/" in name:
            raise UserErrorException("FileDataset.register: %r cannot be the name of a dataset: a text without '/' is needed" % (name,))
        content = {"paths": [{"datastore": datastore.name, "path": path} for datastore, path in self._resolved()],
                   "about": {"description": description, "tags": {str(k): str(v) for k, v in (tags or {}).items()}}}
        with sdk_errors():
            record = client().register("dataset", name, content, create_new_version)
        return FileDataset(self._sources, workspace, record)

    def unregister_all_versions(self) -> None:
        """Forget its name with all versions; its files stay."""
        if self.name is not None:
            with sdk_errors():
                client().forget("dataset", self.name)
        self._take(None)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise later("FileDataset.%s" % name, "use to_path() and download(), and make another dataset of what you choose")

    def __repr__(self) -> str:
        return "FileDataset(name=%r, version=%r, paths=%s)" % (self.name, self.version, [
            s.partition("?")[0] if isinstance(s, str) else "%s/%s" % (s[0].name, s[1]) for s in self._sources])


def id_of(name: str, version: int) -> str:
    """The id of a registered dataset."""
    return str(uuid.uuid5(_NAMESPACE, "%s:%d" % (name, version)))


def of_record(workspace: "Workspace", record: Record) -> FileDataset:
    """The dataset of REGISTERED."""
    from azureml.core.datastore import Datastore

    return FileDataset([(Datastore(workspace, one["datastore"]), one["path"]) for one in record["content"]["paths"]], workspace, record)


def sources_of(path: Any, what: str) -> List[Source]:
    """`path` of from_files: a text, DataPath or (datastore, path), or a list of them."""
    many = path if isinstance(path, list) or (isinstance(path, tuple) and not _is_pair(path)) else [path]
    found = [_source(one, what) for one in many]
    if not found:
        raise UserErrorException("%s: path is an empty list; at least one is needed" % what)
    return found


def _is_pair(value: Any) -> bool:
    from azureml.core.datastore import Datastore

    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], Datastore)


def _source(one: Any, what: str) -> Source:
    from azureml.core.datastore import Datastore

    if isinstance(one, DataPath) and one.datastore is not None:
        one = (one.datastore, one.path_on_datastore or "")
    if isinstance(one, Datastore):
        one = (one, "")
    if _is_pair(one) and (one[1] is None or isinstance(one[1], str)):
        return one[0], _paths.tidy(clean_path(one[1], "%s: path" % what) or "")
    if isinstance(one, os.PathLike):
        one = os.fspath(one)
    if not isinstance(one, str) or not one:
        raise UserErrorException("%s: path is %r; a text, a DataPath, a (datastore, path) pair or a list of them is needed" % (what, one))
    if "://" in one and not one.lower().startswith(("http://", "https://")):
        raise UserErrorException("%s: the address '%s' cannot be read; http:// and https:// can, and what datastores hold, as (datastore, path)"
                                 % (what, one))
    return one if "://" in one else os.path.abspath(one)


# From the web and from this machine into the default datastore

def _keep(folder: str, names: List[str]) -> "Tuple[Datastore, str, bool]":
    """(default datastore, path of `folder` in it, whether it has files of these names)."""
    from azureml.core.datastore import Datastore
    from azureml.core.workspace import Workspace

    datastore = Datastore(Workspace.from_config())
    path = "%s/%s" % (KEPT, folder)
    there = set(_paths._listed(datastore, path + "/"))
    return datastore, path, all("%s/%s" % (path, name) in there for name in names)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _from_web(urls: List[str]) -> "List[Source]":
    """Fetched once, into one folder: whoever names the same addresses again gets what is there."""
    names = [os.path.basename(unquote(urlsplit(url).path)) or "index.html" for url in urls]
    names = ["%d-%s" % (i, name) if names.count(name) > 1 else name for i, name in enumerate(names)]
    datastore, path, there = _keep(_digest("\n".join(urls)), names)
    if not there:
        with tempfile.TemporaryDirectory() as folder:
            places = [os.path.join(folder, name) for name in names]
            for url, place in zip(urls, places):
                _fetch_url(url, place)
            datastore.upload_files(places, target_path=path, show_progress=False)
    return [(datastore, path)] if len(urls) > 1 else [(datastore, "%s/%s" % (path, names[0]))]


def _fetch_url(url: str, place: str) -> None:
    try:
        with urllib.request.urlopen(url, timeout=URL_SECONDS) as answer, open(place, "wb") as file:
            for chunk in iter(lambda: answer.read(CHUNK), b""):
                file.write(chunk)
            if answer.length:  # read() says nothing of a connection that broke
                raise OSError("the connection ended %d bytes before the file does" % answer.length)
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise UserErrorException("the dataset's file '%s' cannot be fetched: %s" % (url.partition("?")[0], reason)) from None


def _from_here(pattern: str) -> Tuple["Datastore", str]:
    """Files of this machine, under a name that follows from their paths, sizes and times."""
    fixed = _paths._fixed(pattern)
    root = pattern if os.path.isdir(pattern) else fixed if fixed != pattern else os.path.dirname(pattern)
    found = [os.path.join(folder, name) for folder, _, names in os.walk(root) for name in names]
    found = sorted(f for f in found if os.path.isfile(f) and _paths.matches(_paths.tidy(pattern), f))
    if not found:
        raise UserErrorException("the dataset's path '%s' names no file of this machine" % pattern)
    stats = [os.stat(f) for f in found]
    datastore, path, there = _keep(_digest("\n".join("%s %d %d" % (f, s.st_size, s.st_mtime_ns) for f, s in zip(found, stats))),
                                   [os.path.relpath(f, root) for f in found])
    if not there:
        datastore.upload_files(found, relative_root=root, target_path=path, show_progress=False)
    return datastore, path if root != os.path.dirname(pattern) or fixed != pattern else "%s/%s" % (path, os.path.basename(pattern))


def _fetch(pieces: List[_paths.Piece], root: str, overwrite: bool) -> None:
    """Files of one datastore."""
    datastore = pieces[0].datastore
    files = [{"path": p.path, "local": os.path.join(root, *p.place.split(posixpath.sep))} for p in pieces]
    others = 0
    with sdk_errors():
        if not datastore._root:
            others = objects.get_files(client().access(datastore.name), files, overwrite).others
        for one in files if datastore._root else ():
            if os.path.lexists(one["local"]) and not overwrite:
                others += 1
                continue
            os.makedirs(os.path.dirname(one["local"]), exist_ok=True)
            client().download_data(datastore.name, one["path"], one["local"])
    if others:
        raise UserErrorException("FileDataset.download: %d files are in '%s' already; give overwrite=True to replace them, or another "
                                 "target_path" % (others, root))
