"""RunConfiguration: a mutable tree that describes how a script runs; and the small objects in it."""
import os
import shlex
from typing import Any, Dict, Iterable, List, Optional

from azureml.core import _yaml
from azureml.core._section import Section, count_of, flag_of, list_of, map_of, read_text, text_of, texts_of, write_text
from azureml.core._service import later
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
FOLDERS = (".azureml", "aml_config")  # where run configurations are looked for; they are written to the first
SUFFIX = ".runconfig"
EnvironmentDefinition = Environment


def positive(value: Any, what: str) -> int:
    """A whole number from 1 on. UserErrorException names `what`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UserErrorException("%s is %r; a whole number from 1 on is needed" % (what, value))
    return value


def number_of(value: Any, what: str) -> Any:
    """A number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise UserErrorException("%s is %r; a number is needed" % (what, value))
    return value


def argument_list(value: Any) -> List[Any]:
    """A list of arguments; a text is split as a shell does."""
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError as error:
            raise UserErrorException("arguments: the text %r cannot be split into words: %s" % (value, error)) from None
    if isinstance(value, (list, tuple)):
        return list(value)
    raise UserErrorException("arguments is of type %s; a list or a text is needed" % type(value).__name__)


class DataReferenceConfiguration(Section):
    """How a run gets data: datastore_name, mode ('mount', 'download', 'upload'), path_on_datastore, path_on_compute, overwrite."""

    _saved = {"data_store_name": text_of, "mode": text_of, "path_on_data_store": text_of, "path_on_compute": text_of,
              "overwrite": flag_of}

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


class MpiConfiguration(Section):
    """process_count_per_node and node_count of an MPI job."""

    _saved = {"process_count_per_node": positive, "node_count": positive}
    _backend = "Mpi"

    def __init__(self, process_count_per_node: int = 1, node_count: int = 1) -> None:
        self.process_count_per_node = positive(process_count_per_node, "MpiConfiguration: process_count_per_node")
        self.node_count = positive(node_count, "MpiConfiguration: node_count")


class PyTorchConfiguration(Section):
    """communication_backend ('Nccl' or 'Gloo'), process_count (of all nodes; default node_count) and node_count."""

    _saved = {"communication_backend": text_of, "process_count": positive, "node_count": positive}

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


class TensorflowConfiguration(Section):
    """worker_count and parameter_server_count of a TensorFlow job."""

    _saved = {"worker_count": positive, "parameter_server_count": positive}
    _backend = "ParameterServer"

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = positive(worker_count, "TensorflowConfiguration: worker_count")
        self.parameter_server_count = positive(parameter_server_count, "TensorflowConfiguration: parameter_server_count")


class DockerConfiguration(Section):
    """use_docker: the run uses the image of its environment, see DockerSection; shm_size and arguments: for its container."""

    _saved = {"use_docker": flag_of, "shared_volumes": flag_of, "shm_size": text_of, "arguments": texts_of}

    def __init__(self, use_docker: bool = False, shared_volumes: bool = True, arguments: Optional[List[str]] = None,
                 shm_size: Optional[str] = None) -> None:
        self.use_docker = use_docker
        self.shared_volumes = shared_volumes
        self.arguments = list(arguments or [])
        self.shm_size = shm_size


class HistoryConfiguration(Section):
    """output_collection, snapshot_project and directories_to_watch. The snapshot, outputs/ and logs/ are always kept."""

    _saved = {"output_collection": flag_of, "snapshot_project": flag_of, "directories_to_watch": texts_of}

    def __init__(self) -> None:
        self.output_collection = True
        self.snapshot_project = True
        self.directories_to_watch = ["logs"]


class AmlComputeConfiguration(Section):
    """A cluster for one run: vm_size and the like. Here such a run uses this box."""

    _saved = {"name": text_of, "vm_size": text_of, "vm_priority": text_of, "retain_cluster": flag_of,
              "cluster_max_node_count": count_of}

    def __init__(self) -> None:
        self.name: Optional[str] = None
        self.vm_size: Optional[str] = None
        self.vm_priority: Optional[str] = None
        self.retain_cluster = False
        self.cluster_max_node_count: Optional[int] = None


class ContainerInstanceConfiguration(Section):
    """A container for one run. Here such a run uses this box."""

    _saved = {"region": text_of, "cpu_cores": number_of, "memory_gb": number_of}

    def __init__(self) -> None:
        self.region: Optional[str] = None
        self.cpu_cores: Any = 2
        self.memory_gb: Any = 3.5


class SparkConfiguration(Section):
    """Settings of Spark. Kept, and without effect."""

    _saved = {"configuration": map_of}

    def __init__(self) -> None:
        self.configuration: Dict[str, Any] = {}


class HdiConfiguration(Section):
    """How a script is deployed on HDInsight. Kept, and without effect."""

    _saved = {"yarn_deploy_mode": text_of}

    def __init__(self) -> None:
        self.yarn_deploy_mode = "cluster"


class RunConfiguration(Section):
    """How a script runs. All attributes may be set; what they hold is checked when a run is submitted.

    script, arguments (list or text), framework ('Python'), communicator ('None', 'Mpi', 'Gloo' or 'Nccl'; 'OpenMpi' and 'IntelMpi' are
    'Mpi'), conda_dependencies, command. node_count, mpi and pytorch say how many processes there are. Trainyard's own: legacy_aliases,
    see Environment; max_restarts, how often the run starts again by cause, such as {'node_lost': 2, 'preempted': 5, 'error': 1};
    hang_timeout_seconds, after which a collective operation that some rank does not join ends the run (None: never). With ``save`` it becomes the file ``.azureml/<name>.runconfig`` of a project.
    """

    _saved = {
        "script": text_of, "arguments": list_of, "command": text_of, "target": text_of, "framework": text_of, "communicator": text_of,
        "auto_prepare_environment": flag_of, "max_run_duration_seconds": count_of, "node_count": positive, "priority": number_of,
        "environment": map_of, "environment_variables": map_of, "history": map_of, "spark": map_of, "hdi": map_of, "tensorflow": map_of,
        "mpi": map_of, "pytorch": map_of, "docker": map_of, "amlcompute": map_of, "containerinstance": map_of,
        "data_references": map_of, "data": map_of, "output_data": map_of, "source_directory_data_store": text_of,
        "legacy_aliases": flag_of, "max_restarts": map_of, "hang_timeout_seconds": count_of}
    _elsewhere = frozenset({
        "useabsolutepath", "jobname", "prepareenvironment", "paralleltask", "datacaches", "identity", "services",
        "kubernetescompute", "cmk8scompute", "cmakscompute", "credentialpassthrough", "applicationendpoints",
        "autoclustercomputespecification", "telemetryvalues", "runtype", "displayname", "commandreturncodeconfig"})

    def __init__(self, script: Optional[str] = None, arguments: Any = None, framework: Optional[str] = None,
                 communicator: Optional[str] = None, conda_dependencies: Optional[CondaDependencies] = None,
                 _history_enabled: Optional[bool] = None, _path: Optional[str] = None, _name: Optional[str] = None,
                 command: Any = None, legacy_aliases: bool = False) -> None:
        self.script = script
        self.arguments: Any = arguments if arguments is not None else []
        self.command: Any = command if command is not None else ""
        self.framework = framework or "Python"
        self.communicator = communicator or "None"
        self.target: Any = "local"
        self.node_count = 1
        self.max_run_duration_seconds: Optional[int] = None
        self.priority: Optional[int] = None
        self.max_restarts: Optional[Dict[str, int]] = None
        self.hang_timeout_seconds: Optional[int] = None
        self.auto_prepare_environment = True
        self.source_directory_data_store: Any = None
        self.data_references: Dict[str, Any] = {}
        self.data: Dict[str, Any] = {}
        self.output_data: Dict[str, Any] = {}
        self.environment = Environment()
        self.environment_variables: Dict[str, Any] = {}
        self.history = HistoryConfiguration()
        self.mpi: Any = MpiConfiguration()
        self.pytorch: Any = PyTorchConfiguration()
        self.tensorflow: Any = TensorflowConfiguration()
        self.docker = DockerConfiguration()
        self.amlcompute = AmlComputeConfiguration()
        self.containerinstance = ContainerInstanceConfiguration()
        self.spark = SparkConfiguration()
        self.hdi = HdiConfiguration()
        self.legacy_aliases = bool(legacy_aliases)
        self._path = _path
        self._name = _name
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

    # Files

    def save(self, path: Optional[str] = None, name: Optional[str] = None, separate_environment_yaml: bool = False) -> None:
        """Write ``<path>/.azureml/<name>.runconfig``, for ``load``; default for both: where it was loaded from.

        path: the project's folder. separate_environment_yaml: write the packages to ``environment.yml`` beside it. Passwords are
        left out. UserErrorException when there is no name, and for what cannot be written.
        """
        folder = config_folder(path or self._path or ".")
        name = file_name(name or self._name, "RunConfiguration.save")
        values = self._as_dict()
        packages = self.environment.python.conda_dependencies
        if separate_environment_yaml and packages is not None:
            write_text(os.path.join(folder, "environment.yml"), packages.serialize_to_string(), "RunConfiguration.save:")
            values["environment"]["python"].update(condaDependencies=None, condaDependenciesFile="%s/environment.yml"
                                                   % os.path.basename(folder))
        write_text(os.path.join(folder, name), _yaml.dump(values), "RunConfiguration.save:")

    @staticmethod
    def load(path: str, name: Optional[str] = None) -> "RunConfiguration":
        """The configuration that ``save``, here or in the SDK, has written.

        path: the project's folder, in which ``.azureml/<name>.runconfig`` and ``aml_config/`` are looked at, or the file itself.
        UserErrorException when there is none, and, with the line, when it cannot be read.
        """
        place = find_file(path, name, "RunConfiguration.load")
        what = "the run configuration '%s'" % place
        values = _yaml.parse(read_text(place, "the run configuration"), what)
        folder = os.path.dirname(os.path.abspath(place))
        project = os.path.dirname(folder) if os.path.basename(folder) in FOLDERS else folder
        made = RunConfiguration(_path=project, _name=os.path.basename(place)[:-len(SUFFIX)] if place.endswith(SUFFIX) else None)
        made._take(values, what)
        conda_file = made.environment.python.conda_dependencies_file
        if conda_file:
            places = [os.path.join(base, conda_file) for base in (project, folder)]
            made.environment.python.conda_dependencies = CondaDependencies(next((p for p in places if os.path.isfile(p)), places[0]))
            made.environment.python.conda_dependencies_file = None
        return made

    @staticmethod
    def delete(path: str, name: Optional[str] = None) -> None:
        """Remove a file of ``save``. UserErrorException when there is none."""
        place = find_file(path, name, "RunConfiguration.delete")
        try:
            os.unlink(place)
        except OSError as error:
            raise UserErrorException("RunConfiguration.delete: '%s' cannot be removed: %s" % (place, error.strerror), error) from None

    def _as_dict(self) -> Dict[str, Any]:
        from azureml.core import _arguments

        for name in ("data", "output_data"):
            if getattr(self, name):
                raise later("run_config.%s: a dataset" % name, "give the run a DataReference, for example datastore.path('x').as_mount()")
        references = dict(_arguments.as_references(self.data_references))
        words = _arguments.words(argument_list(self.arguments), references)
        made = super()._as_dict()
        made.update(arguments=words, target=getattr(self.target, "name", self.target),
                    command=self.command if isinstance(self.command, str) else shlex.join(_arguments.words(self.command, references)),
                    dataReferences={name: one._as_dict() for name, one in references.items()},
                    sourceDirectoryDataStore=getattr(self.source_directory_data_store, "name", self.source_directory_data_store))
        for key in ("legacyAliases", "maxRestarts", "hangTimeoutSeconds"):  # a file of the SDK has no such keys
            if not made[key]:
                del made[key]
        return made

    def _take(self, values: Any, what: str) -> None:
        super()._take(values, what)
        for key in ("data", "outputData"):
            if values.get(key):
                raise later("%s: %s: a dataset" % (what, key), "use dataReferences")
        if values.get("prepareEnvironment") is not None:  # the older name
            self.auto_prepare_environment = flag_of(values["prepareEnvironment"], "%s: prepareEnvironment" % what)

    def _set(self, name: str, value: Any, what: str) -> None:
        if name == "data_references":
            self.data_references = {key: _reference(one, "%s: %s" % (what, key)) for key, one in map_of(value, what).items()}
        elif name == "arguments":
            self.arguments = argument_list(value)
        elif name == "command" and isinstance(value, list):
            self.command = texts_of(value, what)
        else:
            super()._set(name, value, what)

    def __repr__(self) -> str:
        return "RunConfiguration(target=%s, framework=%s, communicator=%s)" % (
            getattr(self.target, "name", self.target), self.framework, self.communicator)


def _reference(values: Any, what: str) -> DataReferenceConfiguration:
    read = DataReferenceConfiguration()
    read._take(values, what)
    return DataReferenceConfiguration(read.data_store_name, read.mode, read.path_on_data_store, read.path_on_compute, read.overwrite)


def config_folder(path: Any) -> str:
    """The folder for run configurations of the project `path`."""
    if not isinstance(path, (str, os.PathLike)):
        raise UserErrorException("RunConfiguration: path is of type %s; the path of a folder is needed" % type(path).__name__)
    text = os.fspath(path)
    return text if os.path.basename(os.path.normpath(text)) in FOLDERS else os.path.join(text, FOLDERS[0])


def file_name(name: Any, method: str) -> str:
    """``<name>.runconfig``, whether `name` ends so or not."""
    if not isinstance(name, str) or not name or os.path.basename(name) != name:
        raise UserErrorException("%s: name is %r; a plain text such as 'gpu' is needed, which becomes .azureml/gpu.runconfig"
                                 % (method, name))
    return name if name.endswith(SUFFIX) else name + SUFFIX


def find_file(path: Any, name: Optional[str], method: str) -> str:
    """The file of a run configuration. UserErrorException says which there are."""
    folder = config_folder(path)
    if os.path.isfile(path):
        return os.fspath(path)
    project = os.path.dirname(folder)
    wanted = [] if name is None else [file_name(name, method), name]
    for place in (os.path.join(project, f, n) for f in FOLDERS for n in wanted):
        if os.path.isfile(place):
            return place
    there = sorted({n for f in FOLDERS for n in _names(os.path.join(project, f)) if n.endswith(SUFFIX)})
    raise UserErrorException("%s: there is no run configuration '%s' in '%s'; %s" % (
        method, name, os.path.join(project, FOLDERS[0]), "there are " + ", ".join("'%s'" % n[:-len(SUFFIX)] for n in there) if there
        else "RunConfiguration.save writes one"))


def _names(folder: str) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()
