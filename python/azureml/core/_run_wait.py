"""Waiting for a run, with its log as it comes; of several processes with the logs of all, each line with its rank."""
import sys
from typing import Any, Dict, Optional

from azureml.core._definition import portal_url
from azureml.core._service import client, sdk_errors
from azureml.exceptions import ActivityFailedException, ExperimentExecutionException
from trainyard.client import DRIVER_LOG

BUILD_LOG = "azureml-logs/20_image_build_log.txt"
RANK_LOGS = "azureml-logs/70_driver_log_*.txt"
TAIL_LINES = 20


def emit(text: str) -> None:
    """Write to standard output as it is now, at once; what its encoding lacks is replaced."""
    out = sys.stdout
    try:
        out.write(text)
    except UnicodeEncodeError:
        encoding = out.encoding or "ascii"
        out.write(text.encode(encoding, "replace").decode(encoding))
    out.flush()


def headline(text: str) -> str:
    """A heading of the streamed output."""
    return "\n%s\n%s\n\n" % (text, "=" * len(text))


def wait(run_id: str, show_output: bool) -> Dict[str, Any]:
    """Wait until the run has ended; RUN. show_output: print ids, why it waits, the log and a summary."""
    url = portal_url(client(), run_id)
    if show_output:
        emit("RunId: %s\nWeb View: %s\n" % (run_id, url))
    try:
        record = _follow(run_id, show_output)
    except KeyboardInterrupt:
        raise ExperimentExecutionException("waiting was interrupted, and the run goes on: `trainyard logs -f %s` shows its log, "
                                           "`trainyard cancel %s` stops it" % (run_id, run_id)) from None
    if show_output:
        emit(headline("Execution Summary").rstrip("\n") + "\nRunId: %s\nWeb View: %s\n" % (run_id, url))
        for text in record.get("warnings") or []:
            emit("\nWarning: %s\n" % text)
        if record.get("error"):
            emit("\nError: %s\n" % record["error"]["message"])
    return record


def _follow(run_id: str, show: bool) -> Dict[str, Any]:
    waiting: Optional[str] = None
    streaming = False
    with sdk_errors(), client().follow(run_id, DRIVER_LOG if show else "", ranks=show) as events:
        for event in events:
            if event.kind == "end":
                return event.data
            if not show:
                continue
            if event.kind == "log":
                if not streaming:
                    emit(headline("Streaming %s" % (DRIVER_LOG if event.rank is None else RANK_LOGS)))
                    streaming = True
                emit(event.text if event.rank is None else ranked(event.rank, event.text))
            elif event.kind == "state" and event.data.get("why") not in (None, waiting):
                waiting = event.data["why"]
                emit("%s: %s\n" % (event.data["state"], waiting))
    return client().run(run_id)


def ranked(rank: int, text: str) -> str:
    """Lines of one process among those of others."""
    return "".join("[%d] %s\n" % (rank, line) for line in text.rstrip("\n").split("\n"))


def process_count(record: Dict[str, Any]) -> int:
    """Processes of a RUN in all."""
    return int(record["node_count"]) * int(record["process_count_per_node"])


def raise_failure(record: Dict[str, Any], details: Dict[str, Any]) -> None:
    """ActivityFailedException for a run that ended as Failed."""
    if record["state"] != "Failed":
        return
    error = record.get("error") or {}
    text = "the run '%s' failed: %s" % (record["id"], error.get("message") or "no reason was recorded")
    tail = [line for line in (error.get("log_tail") or "").splitlines() if line.strip()][-TAIL_LINES:]
    if tail:
        log = BUILD_LOG if error.get("code") == "EnvironmentBuildFailed" else DRIVER_LOG if process_count(record) == 1 else "its log"
        text += "\nThe last lines of %s:\n%s" % (log, "\n".join("    " + line for line in tail))
    raise ActivityFailedException(text, error_details=details)
