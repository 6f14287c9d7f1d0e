"""Experiments: names under which runs are kept."""
import re
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from azureml.core._run_family import Filter, begin, matches, run_of, snapshot_of
from azureml.core._service import client, later, sdk_errors
from azureml.core._submit import submit
from azureml.core.script_run_config import ScriptRunConfig
from azureml.core.workspace import Workspace
from azureml.exceptions import UserErrorException
from trainyard import errors

if TYPE_CHECKING:
    from azureml.core.run import Run

LATER = frozenset({"archive", "reactivate", "tag", "tags", "set_tags", "remove_tags", "refresh"})
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{2,35}\Z")


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

    def __getattr__(self, name: str) -> Any:
        """What a later release brings is refused by name."""
        if name in LATER:
            raise later("experiment.%s" % name, "leave it out, or tag the runs")
        raise AttributeError("'%s' object has no attribute '%s'" % (type(self).__name__, name))

    @property
    def id(self) -> str:
        """The name: it names the experiment in its workspace."""
        return self.name

    def submit(self, config: Any, tags: Optional[Dict[str, Any]] = None, **kwargs: Any) -> "Run":
        """Submit a ScriptRunConfig or an estimator, and return its run, which is stored by then.

        tags: of the run. show_output: stream the log and wait. UserErrorException and the other classes of azureml.exceptions
        for what cannot run; warnings (UserWarning) for what runs otherwise than was asked for.
        """
        return self._submit(config, tags, None, **kwargs)

    def _submit(self, config: Any, tags: Optional[Dict[str, Any]], parent: Optional[str], **kwargs: Any) -> "Run":
        show_output = bool(kwargs.pop("show_output", False))
        if "pipeline_parameters" in kwargs:
            raise later("pipeline_parameters: a pipeline", "submit the scripts one after the other")
        if kwargs:
            raise UserErrorException("Experiment.submit has no parameter '%s'" % next(iter(kwargs)))
        if tags is not None and not isinstance(tags, dict):
            raise UserErrorException("Experiment.submit: tags is of type %s; a dictionary is needed" % type(tags).__name__)
        as_config = getattr(config, "_as_script_run_config", None)
        ready = as_config() if as_config is not None else config
        if not isinstance(ready, ScriptRunConfig):
            raise UserErrorException("Experiment.submit: config is of type %s; a ScriptRunConfig or an estimator such as "
                                     "azureml.train.dnn.PyTorch is needed" % type(config).__name__)
        run = run_of(self, submit(self.name, ready, tags, parent))
        if show_output:
            run.wait_for_completion(show_output=True)
        return run

    def get_runs(self, type: Optional[str] = None, tags: Filter = None, properties: Filter = None,  # noqa: A002
                 include_children: bool = False) -> "Iterator[Run]":
        """The experiment's runs, newest first; children of runs only with include_children.

        tags, properties: {key: value} that must be equal, or a key that must exist. type: that of ``run.type``.
        """
        with sdk_errors():
            for record in client().runs(experiment=self.name, top=not include_children):
                run = run_of(self, record)
                if matches(record["tags"], tags) and matches(record["properties"], properties) and type in (None, run.type):
                    yield run

    def start_logging(self, outputs: Optional[str] = None, snapshot_directory: Optional[str] = ".", display_name: Optional[str] = None,
                      **kwargs: Any) -> "Run":
        """A new interactive run, which is Running: log to it here, and end it with complete() or fail(), or use it in a ``with``.

        outputs: a folder to keep when it completes (default: what is written to ./outputs meanwhile). snapshot_directory: a folder
        whose content is kept with the run, None for none; the current folder is left out when it is too large, or one's home.
        """
        if kwargs:
            raise UserErrorException("Experiment.start_logging has no parameter '%s'" % next(iter(kwargs)))
        snapshot, source = snapshot_of(snapshot_directory)
        return begin(self, display_name, outputs=outputs, snapshot=snapshot, source=source)

    def get_portal_url(self) -> str:
        """The page of the experiment's runs, for a browser on this machine."""
        from azureml.core._definition import portal_url

        return portal_url(client(), experiment=self.name)

    @staticmethod
    def list(workspace: Workspace, experiment_name: Optional[str] = None) -> "List[Experiment]":
        """The experiments that have runs."""
        with sdk_errors():
            names = [e["name"] for e in client().experiments()]
        return [Experiment(workspace, n) for n in names if experiment_name in (None, n)]

    @staticmethod
    def delete(workspace: Workspace, experiment_id: str) -> None:
        """Remove the experiment (its id is its name) with all its runs. UserErrorException while one of them goes on."""
        with sdk_errors():
            active = next(client().runs(experiment=experiment_id, state="active"), None)
            if active is not None:
                raise UserErrorException("the experiment '%s' has runs that have not ended, '%s' for one; cancel them first, or wait"
                                         % (experiment_id, active["id"]))
            for record in [*client().runs(experiment=experiment_id)]:
                try:
                    client().delete(record["id"])
                except errors.NotFound:
                    continue  # a child, which went with its parent

    def __repr__(self) -> str:
        return "Experiment(Name: %s,\nWorkspace: %s)" % (self.name, self.workspace.name)
