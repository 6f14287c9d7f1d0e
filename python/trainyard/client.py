"""The service as Python objects: one method per route, plain dictionaries in the shapes of docs/spec/http-api.md.

A ``Client`` may be used by many threads, and in the child of a fork: it keeps connections apart. Nothing is asked of the
service before the first method call, which starts the daemon of the state folder when none answers.

Errors of all methods: the classes of ``trainyard.errors``.
"""
import json
import os
import stat
import sys
from contextlib import contextmanager
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union
from urllib.parse import unquote, urlencode

from trainyard import _core, errors
from trainyard.follow import Follow

DRIVER_LOG = "azureml-logs/70_driver_log.txt"
PAGE = 1000  # runs asked for at once

Path = Union[str, "os.PathLike[str]"]
Record = Dict[str, Any]
"""A JSON object of docs/spec/http-api.md."""


class Upload(NamedTuple):
    """How far a snapshot's upload is: files and bytes of the snapshot, of what was sent, and of what has to be."""

    files: int
    bytes: int
    sent_files: int
    sent_bytes: int
    to_send_files: int
    to_send_bytes: int


class Entry(NamedTuple):
    """A line of a manifest (docs/spec/snapshot.md): kind 'f' (file), 'l' (link) or 'd' (empty folder); target of a link."""

    kind: str
    executable: bool
    path: str
    target: str


def decode_json(text: bytes) -> Any:
    """JSON of the service; ``{"$float": "NaN"}`` and its like become floats."""
    return json.loads(text, object_hook=_float_of)


def _float_of(obj: Record) -> Any:
    if len(obj) == 1 and "$float" in obj:
        return float(obj["$float"])
    return obj


class Client:
    """The service of one state folder.

    home: the state folder; default ``$TRAINYARD_HOME``, else ``$XDG_STATE_HOME/trainyard``, else
        ``~/.local/state/trainyard``.
    start: start a daemon when none answers; False gives ``errors.Unreachable`` then.
    """

    def __init__(self, home: Optional[Path] = None, start: bool = True) -> None:
        self._home = None if home is None else os.fspath(home)
        self._start = start
        self._free: List[_core.Client] = []
        self._pid = os.getpid()

    @contextmanager
    def _connection(self) -> Iterator[_core.Client]:
        if self._pid != os.getpid():  # a forked child may not speak on its parent's connections
            self._free, self._pid = [], os.getpid()
        try:
            connection: Optional[_core.Client] = self._free.pop()
        except IndexError:  # another thread may have taken the last one
            connection = None
        if connection is None:
            connection = self._open()
        yield connection
        self._free.append(connection)  # one on which a call failed is not kept

    def _open(self) -> _core.Client:
        return _core.Client(self._home, self._start)

    def _call(self, route: str, *args: str, query: Optional[Mapping[str, Any]] = None, body: Any = None) -> bytes:
        sent = None if body is None else json.dumps(body, allow_nan=False).encode()
        with self._connection() as connection:
            return connection.call(route, args, _query(query), sent)

    def _json(self, route: str, *args: str, query: Optional[Mapping[str, Any]] = None, body: Any = None) -> Any:
        return json.loads(self._call(route, *args, query=query, body=body))

    # The service

    @property
    def home(self) -> str:
        """The state folder, absolute."""
        with self._connection() as connection:
            return connection.home()

    def link(self, run: Optional[str] = None, experiment: Optional[str] = None) -> str:
        """The address of a run's page, of an experiment's or of the newest runs', for a browser on this machine."""
        return str(self._json("link_get", query={"run": run, "experiment": experiment})["url"])

    def status(self) -> Record:
        """STATUS: version, pid, counts of runs, slots, disk space."""
        return self._json("status_get")

    # Runs

    def snapshot(self, directory: Path, max_bytes: int = 0, max_files: int = 0,
                 progress: Optional[Callable[[Upload], Any]] = None) -> str:
        """Store `directory` (what .amlignore or .gitignore leave of it) and return the snapshot's id, 64 hex digits.

        max_bytes, max_files: limits, 0 for the usual ones. errors.TooLarge names the largest entries.
        """
        tell = None if progress is None else lambda *numbers: progress(Upload(*numbers))
        with self._connection() as connection:
            return connection.snapshot(os.fspath(directory), max_bytes, max_files, tell)

    def manifest(self, snapshot: str) -> List[Entry]:
        """What is in a snapshot."""
        found = []
        for line in filter(None, self._call("snapshot_get", snapshot).decode("utf-8", "surrogateescape").split("\n")[1:]):
            kind, mode, _, _, path = line.split(" ", 4)
            path, _, target = path.partition(" -> ") if kind == "l" else (path, "", "")
            found.append(Entry(kind, mode == "755", unquote(path), unquote(target)))
        return found

    def snapshot_file(self, snapshot: str, path: str) -> bytes:
        """The content of one file of a snapshot."""
        return self._call("snapshot_file", snapshot, path)

    def submit(self, experiment: str, spec: Mapping[str, Any]) -> Record:
        """Submit a run (spec: docs/spec/run-spec.md) and return RUN. It is stored when this returns."""
        return self._json("run_submit", experiment, body=spec)

    def run(self, run: str) -> Record:
        """RUN of one run, `spec` included."""
        return self._json("run_get", run)

    def runs(self, experiment: Optional[str] = None, state: Optional[str] = None, target: Optional[str] = None,
             tag: Optional[str] = None, user: Optional[str] = None, limit: Optional[int] = None, parent: Optional[str] = None,
             top: bool = False) -> Iterator[Record]:
        """RUNs, newest first. state: a state, 'active' or 'ended'; tag: 'key' or 'key=value'; limit: None for all.

        parent: only the children of that run. top: only runs that are nobody's children.
        """
        query: Dict[str, Any] = {"experiment": experiment, "state": state, "target": target, "tag": tag, "user": user,
                                 "parent": parent, "top": 1 if top else None}
        left = sys.maxsize if limit is None else limit
        while left > 0:
            page = self._json("run_list", query=dict(query, limit=min(left, PAGE)))
            yield from page["runs"]
            left -= len(page["runs"])
            if not page.get("next"):
                return
            query["before"] = page["next"]

    def experiments(self) -> List[Record]:
        """EXPERIMENTS."""
        return self._json("experiment_list")["experiments"]

    def cancel(self, run: str) -> Record:
        """Ask a run to stop; errors.Conflict when it has ended."""
        return self._json("run_cancel", run)

    def delete(self, run: str) -> None:
        """Remove an ended run with its files and children; errors.Conflict when one of them goes on."""
        self._call("run_delete", run)

    def tag(self, run: str, values: Mapping[str, Optional[str]], remove: Tuple[str, ...] = ()) -> Record:
        """Set and remove tags."""
        return self._json("run_tag", run, body={"set": dict(values), "remove": list(remove)})

    def set_properties(self, run: str, values: Mapping[str, str]) -> Record:
        """Set properties; errors.Conflict when one of them is set already."""
        return self._json("run_properties", run, body={"set": dict(values)})

    def end(self, run: str, state: str, message: Optional[str] = None, code: Optional[str] = None) -> Record:
        """End an interactive run as 'Completed', 'Failed' (with a message and a code) or 'Canceled'. Ended: no change."""
        return self._json("run_end", run, body={"state": state, "message": message, "code": code})

    def add_rows(self, run: str, writer: int, first: int, rows: bytes) -> None:
        """Add metrics (docs/spec/rows.md) of a writer from its row number `first` on; those that are stored already are skipped."""
        with self._connection() as connection:
            connection.call("rows_add", (run,), _query({"writer": writer, "first": first}), rows, "application/octet-stream")

    def events(self, run: str) -> List[Record]:
        """The event log of a run, oldest first (docs/spec/event-log.md)."""
        found: List[Record] = []
        while True:
            page = self._json("run_events", run, query={"after": found[-1]["seq"] if found else 0, "limit": PAGE})["events"]
            found += page
            if len(page) < PAGE:
                return found

    def metrics(self, run: str, name: Optional[str] = None) -> Record:
        """What a run logged: name -> value, list or columns, in the shapes of Azure ML's get_metrics."""
        return decode_json(self._call("metrics_get", run, query={"name": name}))["metrics"]

    def follow(self, run: str, log: str = DRIVER_LOG, ranks: bool = False) -> Follow:
        """States and one log ('' for none) of a run as they happen; ends with the run.

        ranks: of a run of several processes the logs of all instead, in whole lines; ``event.rank`` says whose.
        """
        self.run(run)  # an unknown run is told of here
        return Follow(self._open, run, log, ranks)

    def logs(self, run: str, log: str = DRIVER_LOG) -> str:
        """What a log holds now. A run that has not written to it yet: ''."""
        self.run(run)  # an unknown run is told of here
        try:
            return self.read(run, log).decode("utf-8", "replace")
        except errors.NotFound:
            return ""

    # Files of a run

    def files(self, run: str) -> List[Record]:
        """FILES: logs and artifacts of a run."""
        return self._json("file_list", run)["files"]

    def read(self, run: str, path: str, offset: int = 0) -> bytes:
        """The bytes of one log or artifact from `offset` on."""
        return self._call("file_get", run, path, query={"offset": offset} if offset else None)

    def download(self, run: str, path: str, destination: Path) -> int:
        """Write one log or artifact of a run to a file; its bytes. An interrupted download leaves no file."""
        return self._download("file_get", (run, path), destination)

    def upload(self, run: str, path: str, source: Union[Path, BinaryIO]) -> Record:
        """Add an artifact to a run from a file, or from a stream of bytes; FILE."""
        return self._upload("file_put", (run, path), source, None)

    # Targets

    def targets(self) -> List[Record]:
        """TARGETS."""
        return self._json("target_list")["targets"]

    def target(self, name: str) -> Record:
        """TARGET of one compute target."""
        return self._json("target_get", name)

    def put_target(self, name: str, spec: Mapping[str, Any], ask: bool = False) -> Record:
        """Create or change a compute target. ask: only if its machines, or the engine behind it, answer."""
        return self._json("target_put", name, query={"ask": 1} if ask else None, body=spec)

    def delete_target(self, name: str) -> None:
        """Remove a compute target; errors.Conflict while runs use it."""
        self._call("target_delete", name)

    def nodes(self) -> List[Record]:
        """NODES: this box and the machines of all targets, what they have, and what runs hold of it."""
        return self._json("node_list")["nodes"]

    # Datastores

    def datastores(self) -> List[Record]:
        """DATASTORES."""
        return self._json("datastore_list")["datastores"]

    def datastore(self, name: str) -> Record:
        """DATASTORE of one datastore."""
        return self._json("datastore_get", name)

    def put_datastore(self, name: str, kind: str, config: Mapping[str, Any], overwrite: bool = False, create_if_not_exists: bool = False,
                      skip_validation: bool = False) -> Record:
        """Register a datastore; DATASTORE. config: docs/spec/data-helper.md, credentials included, which are kept sealed.

        errors.Conflict: it is there with another description, and overwrite is False. errors.Refused: it cannot be reached so.
        """
        return self._json("datastore_put", name, body={
            "kind": kind, "config": {k: v for k, v in config.items() if v is not None}, "overwrite": overwrite,
            "create_if_not_exists": create_if_not_exists, "skip_validation": skip_validation})

    def delete_datastore(self, name: str) -> None:
        """Forget a datastore; its data stays. errors.Conflict while runs use it, and for the default one."""
        self._call("datastore_delete", name)

    def set_default_datastore(self, name: str) -> Record:
        """Make a datastore the default one; DATASTORE."""
        return self._json("datastore_default", name)

    def access(self, datastore: str) -> Record:
        """ACCESS: how a datastore is reached, with its credentials."""
        return self._json("datastore_access", datastore)

    def data(self, datastore: str, prefix: Optional[str] = None) -> List[Record]:
        """FILES of a datastore whose path begins with `prefix`."""
        return self._json("data_list", datastore, query={"prefix": prefix})["files"]

    def upload_data(self, datastore: str, path: str, source: Union[Path, BinaryIO], overwrite: bool = False) -> Record:
        """Write a file of a datastore; errors.Conflict when it exists and overwrite is False."""
        return self._upload("data_put", (datastore, path), source, {"overwrite": 1} if overwrite else None)

    def download_data(self, datastore: str, path: str, destination: Path) -> int:
        """Write one file of a datastore to a local file; its bytes."""
        return self._download("data_get", (datastore, path), destination)

    # Registered environments and datasets (`kind`: 'environment', 'dataset')

    def registered_names(self, kind: str) -> List[Record]:
        """REGISTERED of the latest version of each name."""
        return self._json("%s_list" % kind)["%ss" % kind]

    def registered_versions(self, kind: str, name: str) -> List[Record]:
        """REGISTERED of all versions of one name, the latest first; errors.NotFound."""
        return self._json("%s_versions" % kind, name)["%ss" % kind]

    def registered(self, kind: str, name: str, version: str = "latest") -> Record:
        """REGISTERED of one version; errors.NotFound."""
        return self._json("%s_get" % kind, name, version)

    def register(self, kind: str, name: str, content: Mapping[str, Any], create_new_version: bool = True) -> Record:
        """Register, and return REGISTERED: a new version, or the one that says the same.

        errors.Conflict: there are versions, none says the same, and create_new_version is False.
        """
        return self._json("%s_put" % kind, name, body={"content": content, "create_new_version": create_new_version})

    def forget(self, kind: str, name: str) -> None:
        """Remove all versions of a name; errors.NotFound."""
        self._call("%s_delete" % kind, name)

    # Secrets

    def secrets(self) -> List[Record]:
        """The names of the secrets, and when they were set; not their values."""
        return self._json("secret_list")["secrets"]

    def secret(self, name: str) -> str:
        """The value of a secret; errors.NotFound."""
        return str(self._json("secret_get", name)["value"])

    def set_secret(self, name: str, value: str) -> None:
        """Set a secret; it is stored, sealed, when this returns."""
        self._call("secret_put", name, body={"value": value})

    def delete_secret(self, name: str) -> None:
        """Remove a secret; errors.NotFound."""
        self._call("secret_delete", name)

    # Moving bytes

    def _download(self, route: str, args: Tuple[str, ...], destination: Path) -> int:
        place = os.fspath(destination)
        temporary = "%s.%d.part" % (place, os.getpid())
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            with self._connection() as connection:
                size = connection.receive(route, args, fd)
            os.close(fd)
            fd = -1
            os.replace(temporary, place)
            return size
        except BaseException:
            if fd >= 0:
                os.close(fd)
            os.unlink(temporary)
            raise

    def _upload(self, route: str, args: Tuple[str, ...], source: Union[Path, BinaryIO],
                query: Optional[Mapping[str, Any]]) -> Record:
        if hasattr(source, "read"):
            body = source.read()  # type: ignore[union-attr]
            body = body.encode() if isinstance(body, str) else bytes(body)
            with self._connection() as connection:
                return json.loads(connection.call(route, args, _query(query), body, "application/octet-stream") or b"{}")
        with open(source, "rb") as file:  # type: ignore[arg-type]
            info = os.fstat(file.fileno())
            if not stat.S_ISREG(info.st_mode):
                raise IsADirectoryError(21, "it is not a regular file", os.fspath(source))  # type: ignore[arg-type]
            with self._connection() as connection:
                return json.loads(connection.send(route, args, file.fileno(), info.st_size, _query(query)) or b"{}")


def _query(values: Optional[Mapping[str, Any]]) -> Optional[str]:
    return urlencode({k: v for k, v in (values or {}).items() if v is not None}) or None
