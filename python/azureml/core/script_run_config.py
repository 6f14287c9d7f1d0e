"""ScriptRunConfig: a script or command, and how it runs."""
import copy
from typing import Any, Optional

from azureml.core import _processes
from azureml.core.environment import Environment
from azureml.core.runconfig import DockerConfiguration, RunConfiguration, argument_list
from azureml.exceptions import UserErrorException


class ScriptRunConfig:
    """What ``Experiment.submit`` runs.

    source_directory: folder whose snapshot becomes the working directory (default '.'). script: path in it. arguments: list, or
    a text that is split as a shell does. command: list or text, run by a shell on the worker, instead of script. compute_target: a
    target, its name, or 'local' (default). environment: an Environment. run_config: a RunConfiguration, of which a copy is
    changed. distributed_job_config: an MpiConfiguration or PyTorchConfiguration, for several processes. docker_runtime_config: a
    DockerConfiguration. resume_from: a DataPath.
    UserErrorException for what contradicts itself.
    """

    def __init__(self, source_directory: Optional[str] = None, script: Optional[str] = None, arguments: Any = None,
                 run_config: Optional[RunConfiguration] = None, _telemetry_values: Any = None, compute_target: Any = None,
                 environment: Optional[Environment] = None, distributed_job_config: Any = None, resume_from: Any = None,
                 max_run_duration_seconds: Optional[int] = None, command: Any = None,
                 docker_runtime_config: Optional[DockerConfiguration] = None, **misspelt: Any) -> None:
        if "enviroment" in misspelt and environment is None:
            environment = misspelt.pop("enviroment")
        if misspelt:
            raise UserErrorException("ScriptRunConfig has no parameter '%s'" % next(iter(misspelt)))
        if script and command:
            raise UserErrorException("ScriptRunConfig: script and command are both given; give one of them")
        for what, value, kind in (("run_config", run_config, RunConfiguration), ("environment", environment, Environment),
                                  ("docker_runtime_config", docker_runtime_config, DockerConfiguration)):
            if value is not None and not isinstance(value, kind):
                raise UserErrorException("ScriptRunConfig: %s is of type %s; a %s is needed"
                                         % (what, type(value).__name__, kind.__name__))
        self.source_directory = source_directory if source_directory is not None else "."
        self.run_config = copy.deepcopy(run_config) if run_config is not None else RunConfiguration()
        self.script = script if script is not None or command else self.run_config.script
        self.command = command if command is not None or script else self.run_config.command
        if not self.script and not self.command:
            self.script = "train.py"
        self.arguments = argument_list(arguments if arguments is not None else self.run_config.arguments)
        self.resume_from = resume_from
        self._distributed_job_config: Any = None
        self.distributed_job_config = distributed_job_config
        if compute_target is not None:
            self.run_config.target = compute_target
        if environment is not None:
            self.run_config.environment = environment
        elif not isinstance(self.run_config.environment, Environment):
            raise UserErrorException("ScriptRunConfig: run_config.environment is of type %s; an Environment is needed"
                                     % type(self.run_config.environment).__name__)
        if max_run_duration_seconds is not None:
            self.run_config.max_run_duration_seconds = max_run_duration_seconds
        if docker_runtime_config is not None:
            self.run_config.docker = docker_runtime_config
        self._script_word = "script"
        self._use_gpu = False
        self._needs_torch = False
        self._framework = "torch"  # the package that _framework_version is of
        self._framework_version: Optional[str] = None

    @property
    def distributed_job_config(self) -> Any:
        """MpiConfiguration, PyTorchConfiguration, or None. Setting it writes its counts and communicator into run_config."""
        return self._distributed_job_config

    @distributed_job_config.setter
    def distributed_job_config(self, job: Any) -> None:
        if job is not None:
            _processes.apply(self.run_config, job, "ScriptRunConfig: distributed_job_config")
        self._distributed_job_config = job

    def __repr__(self) -> str:
        return "ScriptRunConfig(source_directory=%r, script=%r)" % (self.source_directory, self.script)
