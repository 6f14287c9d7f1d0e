"""Metrics that are files: images and the JSON documents of confusion matrices and their like."""
import io
import json
import os
import time
from typing import Any, BinaryIO, Callable, Union

from azureml.core._service import client, sdk_errors, warn_once
from azureml.exceptions import UserErrorException
from trainyard import errors
from trainyard.context import LiveRun

SERVICE_SECONDS = 60.0  # that a script waits for a service that is away, before the file is given up
RETRY_SECONDS = 0.5
NAMES_TRIED = 100


class ArtifactLogging:
    """log_image and the log methods of JSON documents; part of ``Run``.

    The file becomes an artifact of the run, and the metric's value is its ``aml://artifactId/...`` address.
    """

    id: str
    _logger: Callable[[], LiveRun]

    def log_image(self, name: str, path: Union[str, BinaryIO, None] = None, plot: Any = None, description: str = "") -> None:
        """Log an image from a file (`path`: its path or a stream) or from matplotlib (`plot`: the pyplot module or a figure).

        It is kept as <name>_<unix time>.png (or with the ending that the file has).
        """
        if (path is None) == (plot is None):
            raise UserErrorException("run.log_image('%s'): give either path or plot" % name)
        if plot is not None:
            if not callable(getattr(plot, "savefig", None)):
                raise UserErrorException("run.log_image('%s'): plot is of type %s; matplotlib's pyplot or a figure is needed"
                                         % (name, type(plot).__name__))
            buffer = io.BytesIO()
            plot.savefig(buffer, format="png")
            content, ending = buffer.getvalue(), ".png"
        else:
            content, ending = _content(name, path), os.path.splitext(str(getattr(path, "name", path)))[1] or ".png"
        self._keep(name, "%s_%d" % (name, time.time()), ending, content)

    def log_confusion_matrix(self, name: str, value: Any, description: str = "") -> None:
        """Log a confusion matrix: {"schema_type", "schema_version", "data": {"class_labels", "matrix"}}, as a dictionary or JSON."""
        self._document("log_confusion_matrix", name, value)

    def log_accuracy_table(self, name: str, value: Any, description: str = "") -> None:
        """Log an accuracy table: {"schema_type", "schema_version", "data": {"probability_tables", ...}}."""
        self._document("log_accuracy_table", name, value)

    def log_predictions(self, name: str, value: Any, description: str = "") -> None:
        """Log predictions: {"schema_type", "schema_version", "data": {"bin_averages", "bin_errors", "bin_counts", "bin_edges"}}."""
        self._document("log_predictions", name, value)

    def log_residuals(self, name: str, value: Any, description: str = "") -> None:
        """Log residuals: {"schema_type", "schema_version", "data": {"bin_edges", "bin_counts"}}."""
        self._document("log_residuals", name, value)

    def _document(self, method: str, name: str, value: Any) -> None:
        try:
            found = json.loads(value) if isinstance(value, (str, bytes)) else value
            if not isinstance(found, dict) or not isinstance(found.get("data"), dict) or "schema_type" not in found:
                raise ValueError("it is no dictionary with 'schema_type', 'schema_version' and a dictionary 'data'")
            text = json.dumps(found, default=_plain)
        except (TypeError, ValueError) as error:
            raise UserErrorException("run.%s('%s'): the value cannot be used: %s" % (method, name, error), error) from None
        self._keep(name, name, "", text.encode())

    def _keep(self, name: str, stem: str, ending: str, content: bytes) -> None:
        for n in range(NAMES_TRIED):
            path = "%s%s%s" % (stem, "_%d" % n if n else "", ending)
            try:
                if _upload(self.id, path, content):
                    self._logger().log(name, "aml://artifactId/ExperimentRun/dcid.%s/%s" % (self.id, path))
                return
            except errors.Conflict:
                continue
        raise UserErrorException("the run '%s' has %d files that begin with '%s' already; use another name" % (self.id, NAMES_TRIED, stem))


def _content(name: str, source: Any) -> bytes:
    try:
        if hasattr(source, "read"):
            return bytes(source.read())
        with open(source, "rb") as file:
            return file.read()
    except OSError as error:
        raise UserErrorException("run.log_image('%s'): '%s' cannot be read: %s" % (name, source, error.strerror), error) from None


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError("a value of type %s is no JSON" % type(value).__name__)


def _upload(run: str, path: str, content: bytes) -> bool:
    """Whether it is stored; errors.Conflict. A service that stays away costs the file, with a warning, and not the training."""
    until = time.monotonic() + SERVICE_SECONDS
    while True:
        try:
            client().upload(run, path, io.BytesIO(content))
            return True
        except errors.Conflict:
            raise
        except (errors.Unreachable, errors.Unavailable) as error:
            if time.monotonic() >= until:
                warn_once("upload:" + run, "'%s' is not kept: %s" % (path, error))
                return False
            time.sleep(RETRY_SECONDS)
        except errors.TrainyardError as error:
            with sdk_errors(doing="cannot keep '%s': " % path):
                raise error
