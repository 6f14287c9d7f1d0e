"""What a script logs: the methods of a live run, and of a run outside of the service."""
import os
import sys
import uuid
import warnings
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple

from azureml.core._service import client
from azureml.data import dataset_consumption_config
from azureml.exceptions import RunEnvironmentException, UserErrorException
from trainyard import remote
from trainyard.context import LiveRun, plain

FLUSH_SECONDS = 300


class Logging:
    """log, log_list, log_row, log_table, flush; part of ``Run``.

    In the script of the run itself, what is logged goes into a file that the run's job keeps, and needs no service. Elsewhere it is
    sent in the background.
    """

    id: str
    _live: Optional[LiveRun] = None

    def _logger(self) -> LiveRun:
        return self._live or remote.logger(client(), self.id)

    def log(self, name: str, value: Any, description: str = "", step: Optional[int] = None) -> None:
        """Log a number or text; repeated calls make a list. numpy and torch scalars are taken.

        Never waits for the service. UserErrorException for what is no single value.
        """
        try:
            (self._live or self._logger()).log(name, value, step)
        except (TypeError, ValueError) as error:
            raise UserErrorException("run.log('%s'): %s" % (name, error), error) from None

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Log a list; `value` may be a generator or a numpy array."""
        try:
            self._logger().log_list(name, value)
        except (TypeError, ValueError) as error:
            raise UserErrorException("run.log_list('%s'): %s" % (name, error), error) from None

    def log_row(self, name: str, description: Optional[str] = None, **kwargs: Any) -> None:
        """Append a row to a table: column=value. One row reads back as {column: value}, several as {column: [values]}."""
        if not kwargs:
            raise UserErrorException("run.log_row('%s'): a row has at least one column, given as column=value" % name)
        try:
            self._logger().log_row(name, kwargs)
        except (TypeError, ValueError) as error:
            raise UserErrorException("run.log_row('%s'): %s" % (name, error), error) from None

    def log_table(self, name: str, value: Dict[str, Any], description: str = "") -> None:
        """Log a table: {column: list or value}."""
        try:
            self._logger().log_table(name, value)
        except (TypeError, ValueError) as error:
            raise UserErrorException("run.log_table('%s'): %s" % (name, error), error) from None

    def flush(self, timeout_seconds: float = FLUSH_SECONDS) -> None:
        """Wait until the service has stored what was logged. Warns, and goes on, when it has not in time; nothing is lost then."""
        logger = self._live or remote.find(self.id)
        if logger is not None and not logger.flush(timeout_seconds):
            warnings.warn("the service has not stored all logged values within %g s; %s" % (
                timeout_seconds, "they are kept on disk until it has" if self._live else "this process goes on trying"),
                RuntimeWarning, stacklevel=2)


class _OnlyRecorded(RunEnvironmentException, AttributeError):
    """What an _OfflineRun does not have, and a recorded run has."""


class _OfflineRun:
    """What ``Run.get_context()`` gives outside of a run: it prints what is logged, and keeps it in memory.

    It has no ``experiment``: scripts tell by that, by its id or by its type that they run on their own.
    """

    def __init__(self, used_for_context_manager: bool = False) -> None:
        self.id = "OfflineRun_%s" % uuid.uuid4()
        self.name = self.display_name = self.id
        self.number = 0
        self.type = None
        self.status = "Running"
        self.parent: Optional[_OfflineRun] = None
        self._children: List[_OfflineRun] = []
        self.input_datasets: Dict[str, Any] = dataset_consumption_config.of_environment()
        self.tags: Dict[str, Any] = {}
        self.properties: Dict[str, Any] = {}
        self._metrics: Dict[str, Any] = {}
        self._files: List[Tuple[str, str]] = []

    @property
    def _run_id(self) -> str:
        return self.id

    def __getattr__(self, name: str) -> Any:
        """What only a recorded run can do is refused by name; ``hasattr`` says that it is not there."""
        from azureml.core.run import Run

        if not name.startswith("_") and hasattr(Run, name):
            raise _OnlyRecorded("run.%s needs a run of the service, and this script runs on its own; submit it with Experiment.submit, "
                                "or ask for hasattr(run, 'experiment') first" % name)
        raise AttributeError("'_OfflineRun' object has no attribute '%s'" % name)

    def _say(self, kind: str, name: str, value: Any) -> None:
        print("Attempted to log %s %s:\n%s" % (kind, name, value))
        sys.stdout.flush()

    def log(self, name: str, value: Any, description: str = "", step: Optional[int] = None) -> None:
        """Print the value, and keep it for get_metrics()."""
        self._say("scalar metric", name, value)
        there = self._metrics.get(name)
        self._metrics[name] = value if name not in self._metrics else [*(there if isinstance(there, list) else [there]), value]

    def log_list(self, name: str, value: Iterable[Any], description: str = "") -> None:
        """Print the list, and keep it for get_metrics()."""
        items = list(value)
        self._say("list metric", name, items)
        self._metrics.setdefault(name, []).extend(plain(items, name))

    def log_row(self, name: str, description: Optional[str] = None, **kwargs: Any) -> None:
        """Print the row, and keep it for get_metrics()."""
        self._say("row metric", name, kwargs)
        there = self._metrics.get(name)
        if there is None:
            self._metrics[name] = dict(kwargs)
            return
        for key, one in kwargs.items():
            column = there.get(key, [])
            there[key] = [*(column if isinstance(column, list) else [column]), one]

    def log_table(self, name: str, value: Dict[str, Any], description: str = "") -> None:
        """Print the table, and keep it for get_metrics()."""
        self._say("table metric", name, value)
        self._metrics[name] = dict(value)

    def log_image(self, name: str, path: Optional[str] = None, plot: Any = None, description: str = "") -> None:
        """Print where the image is."""
        self._say("image", name, path if path is not None else plot)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Print the value."""
        self._say("confusion matrix", name, value)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Print the value."""
        self._say("accuracy table", name, value)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Print the value."""
        self._say("predictions", name, value)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Print the value."""
        self._say("residuals", name, value)

    def get_metrics(self, name: Optional[str] = None, **_: Any) -> Dict[str, Any]:
        """What was logged, in the shapes of a real run."""
        return {k: v for k, v in self._metrics.items() if name in (None, k)}

    def flush(self, timeout_seconds: float = FLUSH_SECONDS) -> None:
        """Nothing waits to be stored."""

    def tag(self, key: str, value: Optional[str] = None) -> None:
        """Keep a tag in memory."""
        self.tags[key] = None if value is None else str(value)

    def set_tags(self, tags: Dict[str, Any]) -> None:
        """Keep tags in memory."""
        for key, value in tags.items():
            self.tag(key, value)

    def remove_tags(self, tags: Iterable[str]) -> None:
        """Forget tags."""
        for key in (tags,) if isinstance(tags, str) else tuple(tags):
            self.tags.pop(key, None)

    def get_tags(self) -> Dict[str, Any]:
        """The tags."""
        return dict(self.tags)

    def add_properties(self, properties: Dict[str, Any]) -> None:
        """Keep properties in memory."""
        self.properties.update((k, str(v)) for k, v in properties.items())

    def get_properties(self) -> Dict[str, Any]:
        """The properties."""
        return dict(self.properties)

    def get_status(self) -> str:
        """'Running'."""
        return self.status

    def get_details(self) -> Dict[str, Any]:
        """runId, status and what was tagged."""
        return {"runId": self.id, "target": "local", "status": self.status, "properties": dict(self.properties),
                "tags": dict(self.tags), "logFiles": {}}

    def get_file_names(self) -> List[str]:
        """The names that upload_file was called with."""
        return [name for name, _ in self._files]

    def upload_file(self, name: str, path_or_stream: Any, datastore_name: Optional[str] = None) -> None:
        """Print what would be uploaded; the file stays where it is."""
        self._say("file", name, path_or_stream)
        self._files.append((name, str(path_or_stream)))

    def upload_files(self, names: Iterable[str], paths: Iterable[str], datastore_name: Optional[str] = None, **_: Any) -> None:
        """Print what would be uploaded; the files stay where they are."""
        for name, path in zip(names, paths):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str, datastore_name: Optional[str] = None) -> None:
        """Print what would be uploaded; the folder stays where it is."""
        self.upload_file(name, os.fspath(path))

    def child_run(self, name: Optional[str] = None, run_id: Optional[str] = None, outputs: Optional[str] = None) -> "_OfflineRun":
        """Another offline run, whose ``parent`` is this one."""
        child = _OfflineRun()
        child.name = child.display_name = name or child.id
        child.parent = self
        self._children.insert(0, child)
        return child

    def create_children(self, count: Optional[int] = None, tag_key: Optional[str] = None,
                        tag_values: Optional[Iterable[Any]] = None) -> "List[_OfflineRun]":
        """Several of them: `count`, or one for each of `tag_values`, which becomes its tag `tag_key`."""
        values = [None] * (count or 0) if tag_values is None else list(tag_values)
        children = [self.child_run() for _ in values]
        for child, value in zip(children, values):
            if tag_key is not None:
                child.tag(tag_key, value)
        return children

    def get_children(self, recursive: bool = False, **_: Any) -> "Iterator[_OfflineRun]":
        """The runs below this one, newest first. recursive: theirs, too."""
        for child in self._children:
            yield child
            if recursive:
                yield from child.get_children(True)

    def get_environment(self) -> Any:
        """There is none: RunEnvironmentException."""
        raise RunEnvironmentException("this script runs on its own, and so has no environment of a run")

    def complete(self, **_: Any) -> None:
        """The run is over."""
        self.status = "Completed"

    def fail(self, error_details: Any = None, error_code: Any = None, **_: Any) -> None:
        """The run is over, with an error."""
        self.status = "Failed"

    def cancel(self) -> bool:
        """There is nothing to cancel."""
        return False

    def __enter__(self) -> "_OfflineRun":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self.status = "Completed" if kind is None else "Failed"

    def __repr__(self) -> str:
        return "Run(Id: %s,\nType: None,\nStatus: %s)" % (self.id, self.status)
