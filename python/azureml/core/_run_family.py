"""Runs without a script, and runs of runs."""
import os
import time
import warnings
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Sequence, Tuple, Union

from azureml.core._service import client, sdk_errors
from azureml.exceptions import SnapshotException, UserErrorException
from trainyard import errors, remote

if TYPE_CHECKING:
    from azureml.core.experiment import Experiment
    from azureml.core.run import Run

OUTPUTS = "outputs"
CLOCK_SECONDS = 1.0  # that the clock of the file system may be behind
Filter = Union[str, Dict[str, Any], None]


def run_of(experiment: "Experiment", record: Dict[str, Any]) -> "Run":
    """The object for RUN."""
    from azureml.core.run import Run
    from azureml.core.script_run import ScriptRun

    return (Run if record["kind"] == "interactive" else ScriptRun)(experiment, record["id"], _record=record)


def begin(experiment: "Experiment", display_name: Optional[str] = None, parent: Optional[str] = None, outputs: Optional[str] = None,
          snapshot: Optional[str] = None, source: Optional[str] = None, tags: Optional[Dict[str, Any]] = None) -> "Run":
    """A new interactive run, which is Running, and which fails if this process ends before it."""
    spec: Dict[str, Any] = {
        "version": 1, "interactive": True, "process": remote.process(), "display_name": display_name, "parent": parent,
        "snapshot": snapshot, "source_directory": source,
        "tags": {str(k): None if v is None else str(v) for k, v in (tags or {}).items()},
        "properties": {"_azureml.ComputeTargetType": "local", **({"ContentSnapshotId": snapshot} if snapshot else {})}}
    with sdk_errors():
        run = run_of(experiment, client().submit(experiment.name, spec))
    run._outputs, run._began = outputs, time.time()
    return run


def snapshot_of(directory: Optional[str]) -> Tuple[Optional[str], Optional[str]]:
    """(the snapshot's id, the folder) for start_logging: the current folder by default, if it can be one; None for none."""
    from azureml.core._submit import check_source, store_snapshot

    if directory is None:
        return None, None
    by_default = directory == "."
    place = os.path.realpath(directory)
    if by_default and place in (os.path.realpath(os.path.expanduser("~")), os.sep):
        return None, None
    check_source(directory)
    try:
        return store_snapshot(place, None), place
    except SnapshotException as error:
        if not by_default:
            raise
        warnings.warn("the run has no snapshot of the current folder: %s" % error, UserWarning, stacklevel=4)
        return None, None


def matches(values: Dict[str, Any], wanted: Filter) -> bool:
    """Do `values` have what a filter asks for?"""
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted in values
    return all(k in values and values[k] == (None if v is None else str(v)) for k, v in wanted.items())


class RunFamily:
    """Children and parents, and the ends of runs that have no script; part of ``Run``."""

    id: str
    experiment: "Experiment"
    _live: Any = None
    _outputs: Optional[str] = None
    _began: Optional[float] = None
    _record: Dict[str, Any]

    # Children

    def child_run(self, name: Optional[str] = None, run_id: Optional[str] = None, outputs: Optional[str] = None) -> "Run":
        """A new interactive run below this one, in its experiment; a context manager. outputs: a folder to keep when it completes."""
        if run_id is not None:
            raise UserErrorException("child_run: the service gives runs their ids; leave run_id out, and use name or a tag")
        return begin(self.experiment, name, self.id, outputs)

    def create_children(self, count: Optional[int] = None, tag_key: Optional[str] = None,
                        tag_values: Optional[Sequence[Any]] = None) -> "List[Run]":
        """Several children at once: `count` of them, or one for each of `tag_values`, which becomes its tag `tag_key`."""
        if (tag_key is None) != (tag_values is None):
            raise UserErrorException("create_children: give both tag_key and tag_values, or neither")
        if tag_values is not None and count not in (None, len(tag_values)):
            raise UserErrorException("create_children: count is %s, and there are %d tag_values" % (count, len(tag_values)))
        if tag_values is None and (not isinstance(count, int) or count < 1):
            raise UserErrorException("create_children: count is %r; a number from 1 on is needed" % (count,))
        all_tags: List[Dict[str, Any]] = [{}] * (count or 0) if tag_values is None else [{str(tag_key): v} for v in tag_values]
        return [begin(self.experiment, parent=self.id, tags=tags) for tags in all_tags]

    def submit_child(self, config: Any, tags: Optional[Dict[str, Any]] = None, **kwargs: Any) -> "Run":
        """As ``experiment.submit``, for a run below this one."""
        return self.experiment._submit(config, tags, self.id, **kwargs)

    def get_children(self, recursive: bool = False, tags: Filter = None, properties: Filter = None, type: Optional[str] = None,  # noqa: A002
                     status: Optional[str] = None, _rehydrate_runs: bool = True) -> "Iterator[Run]":
        """The runs below this one, newest first. recursive: theirs, too. The filters are those of ``experiment.get_runs``."""
        with sdk_errors():
            for record in client().runs(parent=self.id):
                child = run_of(self.experiment, record)
                if matches(record["tags"], tags) and matches(record["properties"], properties) and \
                        type in (None, child.type) and status in (None, record["state"]):
                    yield child
                if recursive:
                    yield from child.get_children(True, tags, properties, type, status)

    @property
    def parent(self) -> "Optional[Run]":
        """The run that this one is a child of, or None."""
        name = self._record.get("parent")
        if name is None:
            return None
        with sdk_errors():
            return run_of(self.experiment, client().run(name))

    # Ending a run that has no script

    @property
    def _interactive(self) -> bool:
        return bool(self._record["kind"] == "interactive")

    def _end(self, state: str, message: Optional[str] = None, code: Optional[str] = None) -> None:
        self.flush()  # type: ignore[attr-defined]
        with sdk_errors():
            self._cache = client().end(self.id, state, message, code)
        remote.forget(self.id)

    def _keep_outputs(self) -> None:
        """Add the files of the folder that the run was begun with; of ./outputs, those that were written since it began."""
        folder = self._outputs if self._outputs is not None else OUTPUTS
        if self._began is None or not os.path.isdir(folder):
            if self._outputs is not None:
                warnings.warn("the folder '%s' (outputs) of run '%s' is not there; nothing of it is kept" % (folder, self.id),
                              UserWarning, stacklevel=4)
            return
        since = self._began - CLOCK_SECONDS if self._outputs is None else 0.0
        for root, _, files in sorted(os.walk(folder)):
            for file in sorted(files):
                place = os.path.join(root, file)
                if os.path.isfile(place) and max(os.stat(place).st_mtime, os.stat(place).st_ctime) >= since:
                    try:
                        client().upload(self.id, "%s/%s" % (OUTPUTS, os.path.relpath(place, folder)), place)
                    except (OSError, errors.TrainyardError) as error:
                        warnings.warn("'%s' is not kept: %s" % (place, error), UserWarning, stacklevel=4)

    def __enter__(self) -> "Run":
        return self  # type: ignore[return-value]

    def __exit__(self, kind: Any, error: Any, _: Any) -> None:
        if kind is None:
            self.complete()  # type: ignore[attr-defined]
        else:
            self.fail("%s: %s" % (kind.__name__, error), kind.__name__)  # type: ignore[attr-defined]
