"""RunConfiguration: a mutable tree that describes how a script runs; and the small objects in it."""
from typing import Any, Dict, List, Optional

from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.container_registry import ContainerRegistry
from azureml.core.environment import DEFAULT_CPU_IMAGE, DEFAULT_GPU_IMAGE, Environment
from azureml.data.data_reference import clean_path
from azureml.exceptions import UserErrorException

__all__ = [
    "CondaDependencies", "ContainerRegistry", "DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE", "DataReferenceConfiguration",
    "DockerConfiguration", "EnvironmentDefinition", "MpiConfiguration", "PyTorchConfiguration", "RunConfiguration",
    "TensorflowConfiguration",
]

DEFAULT_MAX_RUN_SECONDS = 2592000
EnvironmentDefinition = Environment


def positive(value: Any, what: str) -> int:
    """A whole number from 1 on. UserErrorException names `what`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserErrorException("%s is %r; a whole number from 1 on is needed" % (what, value))
    return value


class DataReferenceConfiguration:
    """How a run gets data: datastore_name, mode ('mount', 'download', 'upload'), path_on_datastore, path_on_compute, overwrite."""

    def __init__(self, datastore_name: Optional[str] = None, mode: str = "mount", path_on_datastore: Optional[str] = None,
                 path_on_compute: Optional[str] = None, overwrite: bool = False) -> None:
        if str(mode).lower() not in ("mount", "download", "upload"):
            raise UserErrorException("DataReferenceConfiguration: mode is %r, and may be 'mount', 'download' or 'upload'" % (mode,))
        self.data_store_name = datastore_name
        self.mode = str(mode).lower()
        self.path_on_data_store = clean_path(path_on_datastore, "DataReferenceConfiguration: path_on_datastore")
        self.path_on_compute = path_on_compute
        self.overwrite = overwrite

    @property
    def datastore_name(self) -> Optional[str]:
        """The datastore's name."""
        return self.data_store_name

    @property
    def path_on_datastore(self) -> Optional[str]:
        """The path in it."""
        return self.path_on_data_store


class MpiConfiguration:
    """process_count_per_node and node_count of an MPI job."""

    _backend = "Mpi"

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node = positive(process_count_per_node, "MpiConfiguration: process_count_per_node")
        self.node_count = positive(node_count, "MpiConfiguration: node_count")


class PyTorchConfiguration:
    """communication_backend ('Nccl' or 'Gloo'), process_count (of all nodes; default node_count) and node_count."""

    def __init__(self, communication_backend: str = "Nccl", process_count: Optional[int] = None, node_count: int = 1) -> None:
        if str(communication_backend).lower() not in ("nccl", "gloo"):
            raise UserErrorException("PyTorchConfiguration: communication_backend is %r, and may be 'Nccl' or 'Gloo'"
                                     % (communication_backend,))
        self.communication_backend = str(communication_backend).capitalize()
        self.node_count = positive(node_count, "PyTorchConfiguration: node_count")
        self.process_count = self.node_count if process_count is None else positive(process_count, "PyTorchConfiguration: process_count")

    @property
    def _backend(self) -> str:
        return self.communication_backend


class TensorflowConfiguration:
    """worker_count and parameter_server_count of a TensorFlow job."""

    _backend = "ParameterServer"

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = positive(worker_count, "TensorflowConfiguration: worker_count")
        self.parameter_server_count = positive(parameter_server_count, "TensorflowConfiguration: parameter_server_count")


class DockerConfiguration:
    """use_docker, shared_volumes, arguments, shm_size. Kept, and without effect: runs are processes of this box."""

    def __init__(self, use_docker: bool = False, shared_volumes: bool = True, arguments: Optional[List[str]] = None,
                 shm_size: Optional[str] = None) -> None:
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = list(arguments or [])
        self.shm_size = shm_size


class HistoryConfiguration:
    """output_collection and directories_to_watch. outputs/ and logs/ are always kept."""

    def __init__(self) -> None:
        self.output_collection = True
        self.directories_to_watch = ["logs"]
        self.snapshot_project = True


class AmlComputeConfiguration:
    """A cluster for one run: vm_size and the like. Here such a run uses this box."""

    def __init__(self) -> None:
        self.vm_size: Optional[str] = None
        self.vm_priority: Optional[str] = None
        self.name: Optional[str] = None
        self.retain_cluster = False
        self.cluster_max_node_count: Optional[int] = None


class RunConfiguration:
    """How a script runs. All attributes may be set; what they hold is checked when a run is submitted.

    script, arguments (list or text), framework ('Python'), communicator ('None'), conda_dependencies, command.
    """

    def __init__(self, script: Optional[str] = None, arguments: Any = None, framework: Optional[str] = None,
                 communicator: Optional[str] = None, conda_dependencies: Optional[CondaDependencies] = None,
                 _history_enabled: Optional[bool] = None, _path: Optional[str] = None, _name: Optional[str] = None,
                 command: Any = None) -> None:
        self.script = script
        self.arguments: Any = arguments if arguments is not None else []
        self.command: Any = command if command is not None else ""
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.target: Any = "local"
        self.node_count = 1
        self.max_run_duration_seconds: Optional[int] = None
        self.auto_prepare_environment = True
        self.source_directory_data_store: Optional[str] = None
        self.data_references: Dict[str, Any] = {}
        self.data: Dict[str, Any] = {}
        self.output_data: Dict[str, Any] = {}
        self.environment = Environment()
        self.environment_variables: Dict[str, Any] = {}
        self.history = HistoryConfiguration()
        self.mpi = MpiConfiguration()
        self.pytorch = PyTorchConfiguration()
        self.tensorflow = TensorflowConfiguration()
        self.docker = DockerConfiguration()
        self.amlcompute = AmlComputeConfiguration()
        self.spark = self.environment.spark
        if conda_dependencies is not None:
            if not isinstance(conda_dependencies, CondaDependencies):
                raise UserErrorException("RunConfiguration: conda_dependencies is of type %s; a CondaDependencies is needed"
                                         % type(conda_dependencies).__name__)
            self.environment.python.conda_dependencies = conda_dependencies

    @property
    def prepare_environment(self) -> bool:
        """The older name of auto_prepare_environment."""
        return self.auto_prepare_environment

    @prepare_environment.setter
    def prepare_environment(self, value: bool) -> None:
        self.auto_prepare_environment = value

    def __repr__(self) -> str:
        return "RunConfiguration(target=%s, framework=%s, communicator=%s)" % (
            getattr(self.target, "name", self.target), self.framework, self.communicator)
