"""What all estimators share: their parameters, checked, and turned into a RunConfiguration."""
import os
from typing import Any, Dict, Optional

from azureml.core import _arguments, _processes
from azureml.core._service import cloud_only, warn_once
from azureml.core.compute_target import ComputeTarget
from azureml.core.conda_dependencies import CondaDependencies, spec_list
from azureml.core.container_registry import ContainerRegistry
from azureml.core.environment import Environment
from azureml.core.runconfig import RunConfiguration, positive
from azureml.core.script_run_config import ScriptRunConfig
from azureml.exceptions import UserErrorException


class EstimatorBase:
    """A script of ``source_directory`` and how it runs; ``Experiment.submit`` takes it.

    Attributes: run_config (RunConfiguration, may be changed before submission), source_directory, entry_script, script_params,
    conda_dependencies (CondaDependencies, may be changed).
    """

    _framework: Optional[str] = None  # the package that the script is for
    _needs_torch = False

    def _set(self, source_directory: Any, given: Dict[str, Any]) -> None:
        """Take the parameters, which ``Estimator`` describes; `given` holds them by name."""
        kind = type(self).__name__
        if source_directory is not None and not isinstance(source_directory, (str, os.PathLike)):
            raise UserErrorException("%s: source_directory is of type %s; the path of a folder is needed"
                                     % (kind, type(source_directory).__name__))
        if not isinstance(given["entry_script"], (str, os.PathLike)) or not os.fspath(given["entry_script"]):
            raise UserErrorException("%s: entry_script is %r; the script's path in source_directory is needed"
                                     % (kind, given["entry_script"]))
        for name in ("use_gpu", "use_docker", "user_managed"):
            if not isinstance(given[name], (bool, int)):
                raise UserErrorException("%s: %s is %r; True or False is needed" % (kind, name, given[name]))
        self.run_config = RunConfiguration()
        self._set_processes(kind, given, self.run_config)
        self.source_directory = os.fspath(source_directory) if source_directory is not None else "."
        self.entry_script = os.fspath(given["entry_script"])
        self.script_params = given["script_params"]
        self._use_gpu = bool(given["use_gpu"])
        self._framework_version = given.get("framework_version")
        self._resume_from = given["resume_from"]
        self.run_config.script = self.entry_script
        self.run_config.target = self._target(given)
        self.run_config.max_run_duration_seconds = given["max_run_duration_seconds"]
        self.run_config.arguments = _arguments.script_words(given["script_params"], self.run_config.data_references)
        _arguments.add_inputs(self.run_config.data_references, given["inputs"])
        self.run_config.environment = self._environment(kind, given)
        self._warn(kind, given)

    @staticmethod
    def _set_processes(kind: str, given: Dict[str, Any], rc: RunConfiguration) -> None:
        """Write how many processes there are, and how they work together. Contradictions and parameter servers are refused by name."""
        backend, training = given["distributed_backend"], given["distributed_training"]
        one_of("distributed_backend", backend, "distributed_training", training)
        nodes = positive(given["node_count"], "%s: node_count" % kind)
        per_node = positive(given["process_count_per_node"], "%s: process_count_per_node" % kind)
        word = str(backend).lower()
        if backend is not None and word not in (*BACKENDS, "ps"):
            raise UserErrorException("%s: distributed_backend is %r, and may be %s"
                                     % (kind, backend, " or ".join("'%s'" % b for b in BACKENDS)))
        servers = [n for n in ("worker_count", "parameter_server_count") if positive(given.get(n, 1), "%s: %s" % (kind, n)) > 1]
        if servers or word == "ps":
            raise UserErrorException("%s: %s asks for parameter servers, which Trainyard does not have; use distributed_backend='mpi', or "
                                     "leave it out to run one process" % (kind, servers[0] if servers else "distributed_backend = 'ps'"))
        if training is not None:
            _processes.apply(rc, training, "%s: distributed_training" % kind, nodes, per_node)
            if per_node > 1 and rc.communicator == "Mpi" and rc.mpi.process_count_per_node != per_node:
                warn_once("process_count_per_node", "process_count_per_node = %d has no effect, because distributed_training says %d"
                          % (per_node, rc.mpi.process_count_per_node), stacklevel=5)
        elif backend is None:
            for name, value in (("node_count", nodes), ("process_count_per_node", per_node)):
                _processes.need_backend("%s: %s" % (kind, name), value, "distributed_backend is None",
                                        "give distributed_backend='mpi' (or 'gloo', 'nccl'), or distributed_training")
        elif word == "mpi":
            _processes.set_mpi(rc, per_node, nodes)
        else:
            _processes.set_torch(rc, word.capitalize(), nodes * per_node, nodes)

    @property
    def conda_dependencies(self) -> CondaDependencies:
        """The packages that the script needs; changes before submission count."""
        section = self.run_config.environment.python
        if section.conda_dependencies is None:
            section.conda_dependencies = CondaDependencies()
        return section.conda_dependencies

    @staticmethod
    def _target(given: Dict[str, Any]) -> Any:
        target = given["compute_target"]
        if target is not None and not isinstance(target, (str, ComputeTarget)):
            raise UserErrorException("compute_target is of type %s; a ComputeTarget, its name, or 'local' is needed"
                                     % type(target).__name__)
        if target is not None and given["vm_size"]:
            warn_once("vm_size", "vm_size has no effect, because compute_target is given", stacklevel=5)
        elif given["vm_size"]:
            warn_once("vm_size", "vm_size '%s': no cluster is made for the run, it uses this box" % given["vm_size"], stacklevel=5)
        return "local" if target is None else target

    def _environment(self, kind: str, given: Dict[str, Any]) -> Environment:
        definition = given["environment_definition"]
        if definition is not None:
            if not isinstance(definition, Environment):
                raise UserErrorException("%s: environment_definition is of type %s; an Environment is needed"
                                         % (kind, type(definition).__name__))
            beside = [n for n in ENVIRONMENT_PARAMETERS if given[n]]
            if beside:
                raise UserErrorException("%s: environment_definition and %s are both given; put what %s into the Environment, and leave "
                                         "%s out" % (kind, ", ".join(beside), *(("it says", "it") if len(beside) == 1 else
                                                                                ("they say", "them"))))
            return definition
        made = Environment()
        made.python.user_managed_dependencies = bool(given["user_managed"])
        made.python.conda_dependencies = self._dependencies(given)
        made.environment_variables = _arguments.environment_variables(("environment_variables", given["environment_variables"]))
        image = one_of("custom_docker_base_image", given["custom_docker_base_image"], "custom_docker_image", given["custom_docker_image"])
        registry = given["image_registry_details"]
        if registry is not None and not isinstance(registry, ContainerRegistry):
            raise UserErrorException("%s: image_registry_details is of type %s; a ContainerRegistry is needed" % (kind, type(registry).__name__))
        if image and not given["use_docker"]:
            warn_once("use_docker", "the image '%s' has no effect, because use_docker is False" % image, stacklevel=5)
        elif image:
            made.docker.base_image, made.docker.enabled = image, True
        made.docker.base_image_registry = registry or made.docker.base_image_registry
        made.docker.shm_size = given["shm_size"]
        return made

    def _dependencies(self, given: Dict[str, Any]) -> CondaDependencies:
        conda_file = one_of("conda_dependencies_file_path", given["conda_dependencies_file_path"], "conda_dependencies_file",
                            given["conda_dependencies_file"])
        pip_file = one_of("pip_requirements_file_path", given["pip_requirements_file_path"], "pip_requirements_file",
                          given["pip_requirements_file"])
        made = CondaDependencies(None if conda_file is None else os.path.join(self.source_directory, conda_file))
        if self._framework is not None and not self._needs_torch and not given["user_managed"]:
            made.add_pip_package(self._framework)
        if pip_file is not None:
            made._add_requirements(os.path.join(self.source_directory, pip_file), "pip_requirements_file")
        for spec in spec_list(given["pip_packages"], "pip_packages"):
            made.add_pip_package(spec)
        for spec in spec_list(given["conda_packages"], "conda_packages"):
            made.add_conda_package(spec)
        return made

    @staticmethod
    def _warn(kind: str, given: Dict[str, Any]) -> None:
        for name in ("vm_priority", "source_directory_data_store"):
            cloud_only("%s: %s" % (kind, name), bool(given[name]))

    def _as_script_run_config(self) -> ScriptRunConfig:
        config = ScriptRunConfig(self.source_directory, run_config=self.run_config, resume_from=self._resume_from)
        config._script_word = "entry_script"
        config._use_gpu = self._use_gpu
        config._needs_torch = self._needs_torch
        config._framework = self._framework or "torch"
        config._framework_version = self._framework_version
        return config

    def __repr__(self) -> str:
        return "%s(source_directory=%r, entry_script=%r)" % (type(self).__name__, self.source_directory, self.entry_script)


BACKENDS = ("mpi", "gloo", "nccl")
ENVIRONMENT_PARAMETERS = (
    "custom_docker_base_image", "custom_docker_image", "image_registry_details", "user_managed", "conda_packages", "pip_packages",
    "conda_dependencies_file_path", "pip_requirements_file_path", "conda_dependencies_file", "pip_requirements_file",
    "environment_variables")


def one_of(old_name: str, old: Any, new_name: str, new: Any) -> Optional[Any]:
    """The value of a parameter that has two names. UserErrorException when both are given."""
    if old is not None and new is not None:
        raise UserErrorException("%s and %s are both given; they are two names of the same, give one" % (old_name, new_name))
    return new if old is None else old
