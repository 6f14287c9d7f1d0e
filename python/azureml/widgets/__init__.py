"""RunDetails: how a run is, as text or, in a notebook, as a table."""
import datetime
import html
import sys
from typing import Any, Dict, List, Optional, Tuple

from azureml._restclient.constants import TERMINAL
from azureml.exceptions import AzureMLException

__all__ = ["RunDetails"]

METRICS_SHOWN = 20
_CELL = 'style="text-align:left;vertical-align:top;white-space:pre-wrap"'

Rows = List[Tuple[str, str]]


class RunDetails:
    """``RunDetails(run).show()`` shows the run as it is now, and returns at once. It never ends a program: what cannot be asked of
    the service is left out, and told."""

    def __init__(self, run_instance: Any) -> None:
        self._run = run_instance

    def show(self, render_lib: Any = None, widget_settings: Any = None) -> None:
        """Show a table in a notebook, text elsewhere."""
        display = _notebook_display()
        if display is not None:
            display({"text/html": self._html(), "text/plain": self._text()}, raw=True)
        else:
            print(self._text())

    def get_widget_data(self, widget_settings: Any = None) -> Dict[str, Any]:
        """What the SDK's widget keeps of a run: status, run_id, run_properties, workbench_uri, error. distributed_processes has
        rank, node and log_file of each of several processes."""
        run, found = self._run, self._run.get_details()
        definition, began, ended = found["runDefinition"], _time(found["startTimeUtc"]), _time(found.get("endTimeUtc"))
        return {
            "status": found["status"], "run_id": run.id, "workbench_uri": run.get_portal_url(), "child_runs": [],
            "child_runs_metrics": {}, "error": found["error"]["error"]["message"] if "error" in found else "",
            "run_properties": {
                "run_id": run.id, "created_utc": run._record.get("created"), "end_time_utc": found.get("endTimeUtc"),
                "status": found["status"], "script_name": definition.get("script"), "tags": run.get_tags(),
                "arguments": " ".join(definition.get("arguments") or []), "run_duration": _duration(began, ended),
                "properties": found["properties"], "log_files": found["logFiles"],
                "distributed_processes": _processes(run._record, found["logFiles"])}}

    def _rows(self) -> Rows:
        run = self._run
        if not hasattr(run, "_refresh"):  # an offline run
            return [("Run", repr(run))]
        rows: Rows = [("Experiment", run.experiment.name), ("Id", run.id)]
        try:
            record = run._refresh()
            rows += _record_rows(record)
            rows += _metric_rows(run.get_metrics())
            rows.append(("Details", run.get_portal_url()))
            if record["state"] not in TERMINAL:
                rows.append(("Follow", "run.wait_for_completion(show_output=True), or in a terminal: trainyard logs -f %s" % run.id))
        except AzureMLException as error:
            rows.append(("Unknown", str(error)))
        return rows

    def _text(self) -> str:
        rows = self._rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join("%-*s  %s" % (width, name, text.replace("\n", "\n" + " " * (width + 2))) for name, text in rows)

    def _html(self) -> str:
        return "<table>%s</table>" % "".join("<tr><th %s>%s</th><td %s>%s</td></tr>" % (_CELL, html.escape(name), _CELL, html.escape(text))
                                             for name, text in self._rows())

    _repr_html_ = _html

    def __repr__(self) -> str:
        return self._text()


def _processes(record: Dict[str, Any], logs: Dict[str, str]) -> List[Dict[str, Any]]:
    """The processes of a run of several; none of a run of one."""
    each = int(record["process_count_per_node"])
    total = int(record["node_count"]) * each
    names = ["azureml-logs/70_driver_log_%d.txt" % rank for rank in range(total if total > 1 else 0)]
    return [{"rank": rank, "node": rank // each, "log_file": logs.get(name)} for rank, name in enumerate(names)]


def _record_rows(record: Dict[str, Any]) -> Rows:
    rows: Rows = [("Status", "%s (%s)" % (record["state"], record["why"]) if record.get("why") else record["state"]),
                  ("Target", record["target"]), ("Command", record["command_line"])]
    if record["node_count"] * record["process_count_per_node"] > 1:
        rows.append(("Processes", "%d nodes x %d" % (record["node_count"], record["process_count_per_node"])))
    for name, key in (("Submitted", "created"), ("Started", "started"), ("Ended", "ended")):
        if record.get(key):
            rows.append((name, record[key]))
    if record.get("started"):
        rows.append(("Duration", _duration(_time(record["started"]), _time(record.get("ended"))) or ""))
    if record.get("tags"):
        rows.append(("Tags", ", ".join(k if v is None else "%s=%s" % (k, v) for k, v in record["tags"].items())))
    if record.get("error"):
        rows.append(("Error", record["error"]["message"]))
    rows += [("Warning", text) for text in record.get("warnings") or []]
    return rows


def _metric_rows(metrics: Dict[str, Any]) -> Rows:
    shown = sorted(metrics)[:METRICS_SHOWN]
    rows: Rows = [("Metric", "%s = %s" % (name, _last(metrics[name]))) for name in shown]
    return rows + ([("Metric", "and %d more" % (len(metrics) - len(shown)))] if len(metrics) > len(shown) else [])


def _last(value: Any) -> str:
    """The last value that was logged, and how many there are."""
    if isinstance(value, list):
        return "%s (the last of %d)" % (value[-1], len(value)) if value else "[]"
    if isinstance(value, dict):
        return ", ".join("%s: %s" % (k, _last(v)) for k, v in value.items())
    return str(value)


def _time(text: Optional[str]) -> Optional[datetime.datetime]:
    return None if not text else datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


def _duration(began: Optional[datetime.datetime], ended: Optional[datetime.datetime]) -> Optional[str]:
    """'0:19:53', up to now for what goes on."""
    if began is None:
        return None
    seconds = ((ended or datetime.datetime.now(datetime.timezone.utc)) - began).total_seconds()
    return str(datetime.timedelta(seconds=max(0, int(seconds))))


def _notebook_display() -> Any:
    """IPython's display function inside a notebook, else None. Nothing is imported: in a notebook IPython is there already."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return sys.modules["IPython.display"].display if hasattr(shell, "kernel") and "IPython.display" in sys.modules else None
