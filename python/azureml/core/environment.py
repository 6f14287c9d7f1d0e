"""Environments: the interpreter, packages and variables of a run."""
import copy
from typing import Any, Dict, List, Optional

from azureml.core._service import later
from azureml.core.conda_dependencies import CondaDependencies, read_requirements
from azureml.core.container_registry import ContainerRegistry
from azureml.exceptions import UserErrorException

__all__ = ["CondaDependencies", "DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE", "DockerSection", "Environment", "PythonSection"]

DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.1-cudnn8-ubuntu20.04"
DEFAULT_INTERPRETER = "python"


class PythonSection:
    """interpreter_path: a Python to use, by path or name ('python': chosen by Trainyard). user_managed_dependencies: build nothing
    and check no packages. conda_dependencies: what the script needs."""

    def __init__(self) -> None:
        self.interpreter_path = DEFAULT_INTERPRETER
        self.user_managed_dependencies = False
        self.conda_dependencies: Optional[CondaDependencies] = CondaDependencies()
        self.conda_dependencies_file: Optional[str] = None
        self.base_conda_environment: Optional[str] = None


class DockerSection:
    """Images and containers. Kept, and without effect: runs are processes of this box."""

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: Optional[str] = DEFAULT_CPU_IMAGE
        self.base_dockerfile: Optional[str] = None
        self.base_image_registry = ContainerRegistry()
        self.gpu_support: Optional[bool] = None
        self.shared_volumes = True
        self.shm_size: Optional[str] = None
        self.arguments: List[str] = []


class SparkSection:
    """Spark. Kept, and without effect."""

    def __init__(self) -> None:
        self.repositories: List[str] = []
        self.packages: List[Any] = []
        self.precache_packages = True


class Environment:
    """A named environment: `python`, `docker`, `spark`, `environment_variables`. Give the object itself to a run."""

    def __init__(self, name: Optional[str] = None, **_: Any) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise UserErrorException("Environment: name is %r; a text is needed" % (name,))
        self.name = name
        self.version: Optional[str] = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.spark = SparkSection()
        self.environment_variables: Dict[str, str] = {}
        self.inferencing_stack_version: Optional[str] = None

    @staticmethod
    def from_conda_specification(name: str, file_path: str) -> "Environment":
        """The packages of a conda file. UserErrorException when it cannot be read."""
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies(file_path)
        return made

    @staticmethod
    def from_pip_requirements(name: str, file_path: str, pip_version: Optional[str] = None) -> "Environment":
        """The packages of a requirements file. UserErrorException when it cannot be read."""
        made = Environment(name)
        made.python.conda_dependencies = CondaDependencies.create(pip_packages=read_requirements(file_path, "from_pip_requirements"))
        return made

    def clone(self, new_name: str) -> "Environment":
        """A copy under another name, without a version."""
        made = copy.deepcopy(self)
        made.name, made.version = new_name, None
        return made

    def register(self, workspace: Any) -> "Environment":
        """Comes with a later release: UserErrorException."""
        raise later("Environment.register", "give the Environment object itself to ScriptRunConfig or the estimator")

    @staticmethod
    def get(workspace: Any, name: str, version: Optional[str] = None, **_: Any) -> "Environment":
        """Comes with a later release: UserErrorException."""
        raise later("Environment.get", "make Environment('%s') and set its python section; without packages the run uses the "
                                       "interpreter that has torch" % name)

    def build(self, workspace: Any, **_: Any) -> Any:
        """Comes with a later release: UserErrorException."""
        raise later("Environment.build", "nothing has to be built: packages are checked when a run is submitted")

    def __repr__(self) -> str:
        return "Environment(name=%s, version=%s)" % (self.name, self.version)
