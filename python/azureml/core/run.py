"""Runs: one execution of a script each. In the script, ``Run.get_context()`` gives the live run."""
import html
import os
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Union

from azureml._restclient.constants import TERMINAL, RunStatus
from azureml.core import _run_wait
from azureml.core._definition import details, portal_url
from azureml.core._run_artifacts import ArtifactLogging
from azureml.core._run_family import RunFamily, run_of
from azureml.core._run_files import RunFiles
from azureml.core._run_logging import FLUSH_SECONDS, Logging, _OfflineRun
from azureml.core._run_snapshot import RunSnapshot
from azureml.core._service import client, later, sdk_errors
from azureml.core.workspace import DEFAULT_NAME, Workspace
from azureml.exceptions import AzureMLException, RunEnvironmentException, UserErrorException
from trainyard import context

if TYPE_CHECKING:
    from azureml.core.experiment import Experiment

__all__ = ["RUNNING_STATES", "Run", "_OfflineRun", "_SubmittedRun", "get_run"]

LATER = frozenset({"register_model", "archive", "model_id", "_get_outputs_datapath", "get_hyperdrive_metrics",
                   "get_best_run_by_primary_metric", "set_display_name", "get_output", "find_step_run", "publish_pipeline"})
RUNNING_STATES: List[str] = RunStatus.get_running_statuses()


class Run(Logging, ArtifactLogging, RunFiles, RunFamily, RunSnapshot):
    """A run that is recorded: ``Run(experiment, run_id)`` attaches to it. UserErrorException when there is none of that id."""

    TYPE: Optional[str] = "azureml.scriptrun"

    def __init__(self, experiment: "Experiment", run_id: str, outputs: Any = None,
                 _record: Optional[Dict[str, Any]] = None, **_: Any) -> None:
        self.experiment = experiment
        self.id: str = _record["id"] if _record else run_id
        self._cache = _record
        if not isinstance(self.id, str):
            raise UserErrorException("Run: run_id is of type %s; a text is needed" % type(self.id).__name__)
        live = context.current()
        self._live = live if live is not None and live.id == self.id else None
        if _record is None and self._live is None:
            self._refresh()

    def __getattr__(self, name: str) -> Any:
        """What a later release brings is refused by name."""
        if name in LATER:
            raise later("run.%s" % name, "leave it out, or put what it keeps into outputs/")
        raise AttributeError("'%s' object has no attribute '%s'" % (type(self).__name__, name))

    # Getting a run

    @staticmethod
    def get_context(allow_offline: bool = True, used_for_context_manager: bool = False, **_: Any) -> "Union[Run, _OfflineRun]":
        """The run that this process is part of; outside of one an _OfflineRun, or RunEnvironmentException when not allow_offline."""
        live = context.current()
        if live is not None:
            return _SubmittedRun._of(live)
        if not allow_offline:
            raise RunEnvironmentException("this process is not part of a run, so there is no run context; submit the script, or allow "
                                          "an offline run with Run.get_context(allow_offline=True)")
        return _OfflineRun(used_for_context_manager)

    @staticmethod
    def get_submitted_run() -> "Union[Run, _OfflineRun]":
        """The older name of get_context()."""
        return Run.get_context()

    @staticmethod
    def start_logging(experiment: "Experiment", **kwargs: Any) -> "Run":
        """The older name of ``experiment.start_logging()``."""
        return experiment.start_logging(**kwargs)

    @staticmethod
    def get(workspace: Workspace, run_id: str) -> "Run":
        """The run of that id, whatever its experiment. UserErrorException when there is none."""
        return get_run(None, run_id, workspace=workspace)

    @staticmethod
    def list(experiment: "Experiment", type: Optional[str] = None, tags: Any = None, properties: Any = None,  # noqa: A002
             include_children: bool = False, **_: Any) -> "Iterator[Run]":
        """As ``experiment.get_runs``."""
        return experiment.get_runs(type=type, tags=tags, properties=properties, include_children=include_children)

    # What is known of it

    def _refresh(self) -> Dict[str, Any]:
        with sdk_errors():
            self._cache = client().run(self.id)
        return self._cache

    @property
    def _record(self) -> Dict[str, Any]:
        return self._cache if self._cache is not None else self._refresh()

    @property
    def number(self) -> int:
        """Its number in the experiment, from 1."""
        return int(self._record["number"])

    @property
    def name(self) -> str:
        """The name for people: display_name."""
        return self.display_name

    @property
    def display_name(self) -> str:
        """The name for people; the id when none was given."""
        return self._record.get("display_name") or self.id

    @property
    def description(self) -> Optional[str]:
        """None: runs have none here."""
        return None

    @property
    def type(self) -> Optional[str]:
        """'azureml.scriptrun'; None for an interactive run."""
        return None if self._interactive else self.TYPE

    @property
    def input_datasets(self) -> Dict[str, Any]:
        """name -> the directory of a dataset, inside of the run's own job; elsewhere the datasets themselves, those that are registered."""
        from azureml.core.dataset import Dataset
        from azureml.data import dataset_consumption_config as consumption

        if self._live is not None and self._live.id == self.id and consumption.NAMES in os.environ:
            return consumption.of_environment()
        with sdk_errors():
            spec = client().run(self.id).get("spec") or {}
        data = ((spec.get("azureml") or {}).get("runDefinition") or {}).get("data") or {}
        return consumption.InputDatasets((name, Dataset.get_by_name(self.experiment.workspace, one["dataset"]["name"], one["dataset"]["version"]))
                                         for name, one in data.items() if one["dataset"]["name"])

    @property
    def tags(self) -> Dict[str, Any]:
        """The tags."""
        return self.get_tags()

    @property
    def properties(self) -> Dict[str, str]:
        """The properties."""
        return self.get_properties()

    @property
    def status(self) -> str:
        """The state; the last known one when the service cannot be asked."""
        if self._cache is not None and self._cache["state"] in TERMINAL:
            return str(self._cache["state"])
        try:
            return self.get_status()
        except AzureMLException:
            return str(self._cache["state"]) if self._cache else "Running"

    def get_status(self) -> str:
        """The state, asked of the service: one of azureml._restclient.constants.RunStatus."""
        return str(self._refresh()["state"])

    def get_details(self) -> Dict[str, Any]:
        """The record: runId, target, status, startTimeUtc, endTimeUtc (once ended), error, environment (what it came to), warnings,
        properties, runDefinition (keys in any case), logFiles {path: URL}, submittedBy."""
        return details(self._refresh(), self._files(), client().home)

    def get_details_with_logs(self) -> Dict[str, Any]:
        """The same, with the text of each log in logFiles."""
        found = self.get_details()
        with sdk_errors():
            found["logFiles"] = {path: client().logs(self.id, path) for path in found["logFiles"]}
        return found

    def get_portal_url(self) -> str:
        """The run's page, for a browser on this machine: live log and metrics. Whoever has the link may read them."""
        return portal_url(client(), self.id)

    # Metrics, tags, properties

    def get_metrics(self, name: Optional[str] = None, recursive: bool = False, run_type: Any = None,
                    populate: bool = False) -> Dict[str, Any]:
        """What was logged: name -> value (logged once), list (several times, or log_list), or {column: value or list}.

        name: only that one; {} when it was not logged. recursive: joined by name with what the runs below this one logged. What
        this process has logged to the run is stored first.
        """
        self.flush(FLUSH_SECONDS)
        with sdk_errors():
            found = client().metrics(self.id, name)
        for child in self.get_children(recursive=True) if recursive else ():
            for key, value in child.get_metrics(name).items():
                found[key] = _joined(found[key], value) if key in found else value
        return found

    def tag(self, key: str, value: Any = None) -> None:
        """Set a tag. In the script it goes the way of logged values, and needs no service."""
        self.set_tags({key: value})

    def set_tags(self, tags: Dict[str, Any]) -> None:
        """Set several tags; values become texts, None stays."""
        if not isinstance(tags, dict):
            raise UserErrorException("set_tags: tags is of type %s; a dictionary is needed" % type(tags).__name__)
        texts = {str(k): None if v is None else str(v) for k, v in tags.items()}
        if self._live is not None:
            for key, value in texts.items():
                try:
                    self._live.tag(key, value)
                except (TypeError, ValueError) as error:
                    raise UserErrorException("run.tag('%s'): %s" % (key, error), error) from None
            return
        with sdk_errors():
            client().tag(self.id, texts)

    def remove_tags(self, tags: List[str]) -> None:
        """Remove tags."""
        keys = (tags,) if isinstance(tags, str) else tuple(tags)
        self.flush(FLUSH_SECONDS)
        with sdk_errors():
            client().tag(self.id, {}, keys)

    def get_tags(self) -> Dict[str, Any]:
        """The tags, asked of the service."""
        self.flush(FLUSH_SECONDS)
        return dict(self._refresh()["tags"])

    def add_properties(self, properties: Dict[str, Any]) -> None:
        """Set properties. UserErrorException for a key that is set already: properties never change."""
        live = self._live
        if live is None:
            with sdk_errors():
                self._cache = client().set_properties(self.id, {str(k): str(v) for k, v in properties.items()})
            return
        there = self.get_properties()
        for key in properties:
            if key in there:
                raise UserErrorException("the property '%s' is '%s' already; properties cannot be changed, tags can" % (key, there[key]))
        for key, value in properties.items():
            live.add_property(str(key), str(value))

    def get_properties(self) -> Dict[str, str]:
        """The properties, asked of the service."""
        self.flush(FLUSH_SECONDS)
        return dict(self._refresh()["properties"])

    # Its life

    def wait_for_completion(self, show_output: bool = False, wait_post_processing: bool = False,
                            raise_on_error: bool = True) -> Dict[str, Any]:
        """Wait until the run has ended, and return get_details().

        show_output: print the log as it comes; of a run of several processes whole lines of all, with "[rank] " before each.
        raise_on_error: ActivityFailedException, with the exit code or signal and the last
        lines of the log, when it ended as Failed.
        """
        self._cache = _run_wait.wait(self.id, bool(show_output))
        found = self.get_details()
        if raise_on_error:
            _run_wait.raise_failure(self._record, found)
        return found

    def cancel(self) -> bool:
        """Ask the run to stop: True, or False when it has ended already."""
        if self.get_status() in TERMINAL:
            return False
        with sdk_errors():
            self._cache = client().cancel(self.id)
        return True

    def complete(self, _set_status: bool = True) -> None:
        """End an interactive run, with the files of its outputs folder. In a submitted script: store what was logged; the run itself
        ends when the script does."""
        if self._live is not None:
            self.flush()
        elif not self._interactive:
            raise UserErrorException("run.complete(): the run '%s' ends when its script does; cancel() ends it now" % self.id)
        else:
            self._keep_outputs()
            self._end("Completed")

    def fail(self, error_details: Any = None, error_code: Any = None, _set_status: bool = True) -> None:
        """End an interactive run as Failed. In a submitted script: the run is Failed when the script ends, whatever its exit code."""
        text = "" if error_details is None else str(error_details)
        if self._live is not None:
            self.flush()
            self._live.declare_failed(text)
        elif not self._interactive:
            raise UserErrorException("run.fail(): the run '%s' ends when its script does; cancel() ends it now" % self.id)
        else:
            self._keep_outputs()
            self._end("Failed", text or "run.fail() was called", None if error_code is None else str(error_code))

    def delete(self) -> None:
        """Remove the run, with its files and the runs below it. UserErrorException while it goes on."""
        with sdk_errors():
            client().delete(self.id)

    def get_secret(self, name: str) -> Optional[str]:
        """The value of a secret of the key vault, or None when there is none of that name."""
        return self.experiment.workspace.get_default_keyvault().get_secret(name)

    def get_secrets(self, secrets: "List[str]") -> Dict[str, Optional[str]]:
        """{name: value or None} of several secrets."""
        return self.experiment.workspace.get_default_keyvault().get_secrets(secrets)

    def get_all_logs(self, destination: Optional[str] = None) -> "List[str]":
        """Write the run's logs below a folder (default: the current one); their paths."""
        names = [f["path"] for f in self._files() if f["kind"] == "log"]
        places = [os.path.join(os.path.abspath(destination or "."), name) for name in names]
        for name, place in zip(names, places):
            self._fetch(name, place)
        return places

    def _repr_html_(self) -> str:
        cells = (("Experiment", self.experiment.name), ("Id", self.id), ("Type", self.type), ("Status", self.status),
                 ("Details", self.get_portal_url()))
        return "<table><tr>%s</tr><tr>%s</tr></table>" % (
            "".join("<th>%s</th>" % name for name, _ in cells), "".join("<td>%s</td>" % html.escape(str(value)) for _, value in cells))

    def __repr__(self) -> str:
        return "Run(Experiment: %s,\nId: %s,\nType: %s,\nStatus: %s)" % (self.experiment.name, self.id, self.type, self.status)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Run) and other.id == self.id

    def __hash__(self) -> int:
        return hash(self.id)


class _SubmittedRun(Run):
    """The live run in its own script. Logging asks nothing of the service, which may be away."""

    _only: "Optional[_SubmittedRun]" = None

    @classmethod
    def _of(cls, live: context.LiveRun) -> "_SubmittedRun":
        if cls._only is None:
            from azureml.core.experiment import Experiment

            labels = (os.environ.get(name) or DEFAULT_NAME for name in (
                "AZUREML_ARM_SUBSCRIPTION", "AZUREML_ARM_RESOURCEGROUP", "AZUREML_ARM_WORKSPACE_NAME"))
            name = os.environ.get("AZUREML_ARM_PROJECT_NAME") or live.id.rsplit("_", 2)[0]
            cls._only = cls(Experiment(Workspace(*labels), name, _skip_name_validation=True), live.id)
        return cls._only

    def __exit__(self, *_: Any) -> None:
        """The run ends when the script does."""


def _joined(there: Any, more: Any) -> Any:
    """Two values of one metric as one."""
    if isinstance(there, dict) and isinstance(more, dict):
        return {k: _joined(there[k], more[k]) if k in there and k in more else there.get(k, more.get(k)) for k in {**there, **more}}
    return [*(there if isinstance(there, list) else [there]), *(more if isinstance(more, list) else [more])]


def get_run(experiment: "Optional[Experiment]", run_id: str, rehydrate: bool = True, workspace: Optional[Workspace] = None,
            **_: Any) -> Run:
    """The run of that id. UserErrorException when there is none."""
    from azureml.core.experiment import Experiment

    with sdk_errors():
        record = client().run(run_id)
    if experiment is None:
        experiment = Experiment(workspace or Workspace.from_config(), record["experiment"], _skip_name_validation=True)
    return run_of(experiment, record)
