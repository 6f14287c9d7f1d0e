"""Experiments: names under which runs are kept."""
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional, Union

from azureml.core._service import client, later, sdk_errors
from azureml.core._submit import submit
from azureml.core.script_run_config import ScriptRunConfig
from azureml.core.workspace import Workspace
from azureml.exceptions import UserErrorException

if TYPE_CHECKING:
    from azureml.core.run import Run

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,35}\Z")
Filter = Union[str, Dict[str, Any], None]


class Experiment:
    """The experiment of that name, which exists as soon as it has a run. UserErrorException for what cannot be a name."""

    def __init__(self, workspace: Optional[Workspace] = None, name: Optional[str] = None, _skip_name_validation: bool = False,
                 workspace_object: Optional[Workspace] = None, **_: Any) -> None:
        owner = workspace if workspace is not None else workspace_object
        if not isinstance(owner, Workspace):
            raise UserErrorException("Experiment: workspace is of type %s; a Workspace is needed, for example "
                                     "Workspace.from_config()" % type(owner).__name__)
        if not isinstance(name, str) or not (_skip_name_validation or _NAME.match(name)):
            raise UserErrorException("%r cannot be the name of an experiment: it has 3 to 36 letters, digits, '_' or '-', and begins "
                                     "with a letter or digit" % (name,))
        self.workspace = owner
        self.name = name

    @property
    def id(self) -> str:
        """The name: it names the experiment in its workspace."""
        return self.name

    def submit(self, config: Any, tags: Optional[Dict[str, Any]] = None, **kwargs: Any) -> "Run":
        """Submit a ScriptRunConfig or an estimator, and return its run, which is stored by then.

        tags: of the run. show_output: stream the log and wait. UserErrorException and the other classes of azureml.exceptions
        for what cannot run; warnings (UserWarning) for what runs otherwise than was asked for.
        """
        from azureml.core.script_run import ScriptRun

        show_output = bool(kwargs.pop("show_output", False))
        if kwargs:
            raise UserErrorException("Experiment.submit has no parameter '%s'" % next(iter(kwargs)))
        if tags is not None and not isinstance(tags, dict):
            raise UserErrorException("Experiment.submit: tags is of type %s; a dictionary is needed" % type(tags).__name__)
        as_config = getattr(config, "_as_script_run_config", None)
        ready = as_config() if as_config is not None else config
        if not isinstance(ready, ScriptRunConfig):
            raise UserErrorException("Experiment.submit: config is of type %s; a ScriptRunConfig or an estimator such as "
                                     "azureml.train.dnn.PyTorch is needed" % type(config).__name__)
        run = ScriptRun(self, "", _record=submit(self.name, ready, tags))
        if show_output:
            run.wait_for_completion(show_output=True)
        return run

    def get_runs(self, type: Optional[str] = None, tags: Filter = None, properties: Filter = None,  # noqa: A002
                 include_children: bool = False) -> "Iterator[Run]":
        """The experiment's runs, newest first. tags, properties: {key: value} that must be equal, or a key that must exist."""
        from azureml.core.script_run import ScriptRun

        with sdk_errors():
            for record in client().runs(experiment=self.name):
                if matches(record["tags"], tags) and matches(record["properties"], properties):
                    if type in (None, ScriptRun.TYPE):
                        yield ScriptRun(self, record["id"], _record=record)

    def start_logging(self, *_: Any, **__: Any) -> "Run":
        """Comes with a later release: UserErrorException."""
        raise later("Experiment.start_logging (an interactive run)", "submit a script, and log in it with Run.get_context()")

    def get_portal_url(self) -> str:
        """Where the service lists the runs: HTTP over the Unix socket of the state folder."""
        from azureml.core._definition import run_url

        return run_url(client().home, "").rstrip("/") + "?experiment=" + self.name

    @staticmethod
    def list(workspace: Workspace, experiment_name: Optional[str] = None) -> "List[Experiment]":
        """The experiments that have runs."""
        with sdk_errors():
            names = [e["name"] for e in client().experiments()]
        return [Experiment(workspace, n) for n in names if experiment_name in (None, n)]

    def __repr__(self) -> str:
        return "Experiment(Name: %s,\nWorkspace: %s)" % (self.name, self.workspace.name)


def matches(values: Dict[str, Any], wanted: Filter) -> bool:
    """Do `values` have what a filter asks for?"""
    if wanted is None:
        return True
    if isinstance(wanted, str):
        return wanted in values
    return all(k in values and values[k] == (None if v is None else str(v)) for k, v in wanted.items())
