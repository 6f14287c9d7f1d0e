"""Environments: the interpreter, packages and variables of a run."""
import copy
import json
import os
from typing import Any, Dict, List, Mapping, Optional

from azureml.core import _conda_file
from azureml.core._later import later_name
from azureml.core._section import (Section, flag_of, list_of, map_of, read_json, read_text, text_of, texts_of, write_text)
from azureml.core._service import later
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.container_registry import ContainerRegistry
from azureml.exceptions import UserErrorException

__all__ = [
    "CondaDependencies", "ContainerRegistry", "DEFAULT_CPU_IMAGE", "DEFAULT_GPU_IMAGE", "DatabricksSection", "DockerBuildContext",
    "DockerSection", "Environment", "PythonSection", "SparkPackage", "SparkSection",
]

DEFAULT_CPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu20.04"
DEFAULT_GPU_IMAGE = "mcr.microsoft.com/azureml/openmpi4.1.0-cuda11.1-cudnn8-ubuntu20.04"
DEFAULT_INTERPRETER = "python"
DEFINITION_FILE = "azureml_environment.json"
CONDA_FILE = "conda_dependencies.yml"
DOCKERFILE = "BaseDockerfile"

DockerBuildContext = later_name("azureml.core.environment.DockerBuildContext", "an image that is built",
                                 "runs are processes of this box: give conda or pip packages instead")


class PythonSection(Section):
    """interpreter_path: a Python to use, by path or name ('python': chosen by Trainyard). user_managed_dependencies: build nothing
    and check no packages. conda_dependencies: what the script needs. conda_dependencies_file: a conda file in source_directory,
    which is read at submission instead of conda_dependencies."""

    _saved = {"interpreter_path": text_of, "user_managed_dependencies": flag_of, "conda_dependencies": map_of,
              "conda_dependencies_file": text_of, "base_conda_environment": text_of}

    def __init__(self) -> None:
        self.interpreter_path = DEFAULT_INTERPRETER
        self.user_managed_dependencies = False
        self.conda_dependencies: Optional[CondaDependencies] = CondaDependencies()
        self.conda_dependencies_file: Optional[str] = None
        self.base_conda_environment: Optional[str] = None

    def _as_dict(self) -> Dict[str, Any]:
        made = self.conda_dependencies
        return {"interpreterPath": self.interpreter_path, "userManagedDependencies": bool(self.user_managed_dependencies),
                "condaDependencies": None if made is None else made.as_dict(),
                "condaDependenciesFile": self.conda_dependencies_file, "baseCondaEnvironment": self.base_conda_environment}

    def _set(self, name: str, value: Any, what: str) -> None:
        if name == "conda_dependencies":
            value = CondaDependencies(_underlying_structure=_conda_file.check(map_of(value, what), what))
            self.conda_dependencies = value
        else:
            super()._set(name, value, what)


class DockerImagePlatform(Section):
    """os and architecture of images. Kept, and without effect."""

    _saved = {"os": text_of, "architecture": text_of}

    def __init__(self) -> None:
        self.os = "Linux"
        self.architecture = "amd64"


class DockerSection(Section):
    """The image whose view of the files the run gets: base_image, base_image_registry, shm_size, arguments. Without `enabled` a run
    on this box uses none. Azure's own images (mcr.microsoft.com/azureml/...) hold what a machine has, and stand for no image."""

    _saved = {"enabled": flag_of, "base_image": text_of, "base_dockerfile": text_of, "base_image_registry": map_of,
              "platform": map_of, "gpu_support": flag_of, "shared_volumes": flag_of, "shm_size": text_of, "arguments": texts_of}
    _elsewhere = frozenset({"buildcontext", "buildinfo"})

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: Optional[str] = DEFAULT_CPU_IMAGE
        self.base_dockerfile: Optional[str] = None
        self.base_image_registry = ContainerRegistry()
        self.platform = DockerImagePlatform()
        self.gpu_support: Optional[bool] = None
        self.shared_volumes = True
        self.shm_size: Optional[str] = None
        self.arguments: List[str] = []

    def _take(self, values: Any, what: str) -> None:
        super()._take(values, what)
        if isinstance(values, dict) and values.get("baseDockerfile") and not values.get("baseImage"):
            self.base_image = None


class SparkPackage(Section):
    """group, artifact and version of a Spark package."""

    _saved = {"group": text_of, "artifact": text_of, "version": text_of}

    def __init__(self, group: Optional[str] = None, artifact: Optional[str] = None, version: Optional[str] = None) -> None:
        self.group = group
        self.artifact = artifact
        self.version = version


class SparkSection(Section):
    """Spark. Kept, and without effect."""

    _saved = {"repositories": texts_of, "packages": list_of, "precache_packages": flag_of}

    def __init__(self) -> None:
        self.repositories: List[str] = []
        self.packages: List[Any] = []
        self.precache_packages = True


class DatabricksSection(Section):
    """Libraries of Databricks. Kept, and without effect."""

    _saved = {"maven_libraries": list_of, "pypi_libraries": list_of, "rcran_libraries": list_of, "jar_libraries": list_of,
              "egg_libraries": list_of}

    def __init__(self) -> None:
        self.maven_libraries: List[Any] = []
        self.pypi_libraries: List[Any] = []
        self.rcran_libraries: List[Any] = []
        self.jar_libraries: List[Any] = []
        self.egg_libraries: List[Any] = []


class Environment(Section):
    """A named environment: `python`, `docker`, `spark`, `databricks`, `environment_variables`. Give the object itself to a run.

    legacy_aliases (Trainyard's own): scripts of the run find numpy's and scikit-learn's old names again: ``np.float``, ``np.int``,
    ``np.str``, ``np.bool``, ``np.object`` and ``sklearn.externals.joblib``.
    """

    _saved = {"name": text_of, "version": text_of, "environment_variables": map_of, "python": map_of, "docker": map_of,
              "spark": map_of, "databricks": map_of, "inferencing_stack_version": text_of, "legacy_aliases": flag_of}
    _elsewhere = frozenset({"assetid", "autorebuild", "r", "stage", "intellectualpropertypublisher"})

    def __init__(self, name: Optional[str] = None, legacy_aliases: bool = False, **private: Any) -> None:
        if name is not None and (not isinstance(name, str) or not name):
            raise UserErrorException("Environment: name is %r; a text is needed" % (name,))
        for key in private:
            if not key.startswith("_"):
                raise UserErrorException("Environment has no parameter '%s'" % key)
        self.name = name
        self.version: Optional[str] = None
        self.python = PythonSection()
        self.docker = DockerSection()
        self.spark = SparkSection()
        self.databricks = DatabricksSection()
        self.r = None
        self.environment_variables: Dict[str, str] = {}
        self.inferencing_stack_version: Optional[str] = None
        self.legacy_aliases = bool(legacy_aliases)

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
        made.python.conda_dependencies = CondaDependencies._of_requirements(file_path, "from_pip_requirements")
        return made

    @staticmethod
    def from_docker_image(name: str, image: str, container_registry: Optional[ContainerRegistry] = None,
                          conda_specification: Optional[str] = None, pip_requirements: Optional[str] = None) -> "Environment":
        """An image, and packages on top of it: those of pip that it lacks are installed beside it, by its own Python, where the run is. A
        run which asks for conda packages that it lacks fails."""
        made = _with_packages("from_docker_image", name, conda_specification, pip_requirements)
        made.docker.base_image = image
        if container_registry is not None:
            made.docker.base_image_registry = container_registry
        return made

    @staticmethod
    def from_dockerfile(name: str, dockerfile: str, conda_specification: Optional[str] = None,
                        pip_requirements: Optional[str] = None) -> "Environment":
        """A Dockerfile (its path or text), for `save_to_directory` and its like. Images are not built: a run with it is refused."""
        made = _with_packages("from_dockerfile", name, conda_specification, pip_requirements)
        made.docker.base_image = None
        made.docker.base_dockerfile = read_text(dockerfile, "the Dockerfile") if os.path.isfile(dockerfile) else dockerfile
        return made

    @staticmethod
    def from_docker_build_context(name: str, docker_build_context: Any, **_: Any) -> "Environment":
        """Images come with a later release: UserErrorException."""
        raise later("Environment.from_docker_build_context", "runs are processes of this box: give conda or pip packages instead")

    @staticmethod
    def from_existing_conda_environment(name: str, conda_environment_name: str) -> "Environment":
        """Always UserErrorException, which says how to name the interpreter of a conda environment."""
        raise UserErrorException(
            "Environment.from_existing_conda_environment: '%s' is not asked which packages it has. Name its interpreter, which has "
            "them, instead: env = Environment('%s'); env.python.user_managed_dependencies = True; env.python.interpreter_path = "
            "'<where conda is>/envs/%s/bin/python'" % (conda_environment_name, name, conda_environment_name))

    def save_to_directory(self, path: str, overwrite: bool = False) -> None:
        """Write ``azureml_environment.json``, ``conda_dependencies.yml`` and, if there is one, ``BaseDockerfile`` into a folder.

        UserErrorException when the folder exists and overwrite is False. Passwords are left out.
        """
        if os.path.lexists(path) and not overwrite:
            raise UserErrorException("Environment.save_to_directory: '%s' exists already; give another path, or overwrite=True" % path)
        values = self._as_dict()
        conda, dockerfile = values["python"].pop("condaDependencies"), values["docker"].pop("baseDockerfile")
        for name, text in ((DEFINITION_FILE, json.dumps(values, indent=4, sort_keys=True) + "\n"),
                           (CONDA_FILE, None if conda is None else _conda_file.dump(conda)), (DOCKERFILE, dockerfile)):
            place = os.path.join(path, name)
            if text is not None:
                write_text(place, text, "Environment.save_to_directory:")
            elif os.path.exists(place):
                os.unlink(place)

    @staticmethod
    def load_from_directory(path: str) -> "Environment":
        """What save_to_directory has written, here or by the SDK. UserErrorException when it cannot be read."""
        place = os.path.join(path, DEFINITION_FILE)
        made = Environment()
        values = map_of(read_json(place, "the environment"), "the environment '%s'" % place)
        made._take(values, "the environment '%s'" % place)
        conda, dockerfile = os.path.join(path, CONDA_FILE), os.path.join(path, DOCKERFILE)
        if os.path.exists(conda):
            made.python.conda_dependencies = CondaDependencies(conda)
        elif not map_of(values.get("python") or {}, "python").get("condaDependencies"):
            made.python.conda_dependencies = None
        if os.path.exists(dockerfile):
            made.docker.base_dockerfile = read_text(dockerfile, "the Dockerfile")
            if not map_of(values.get("docker") or {}, "docker").get("baseImage"):
                made.docker.base_image = None
        return made

    def clone(self, new_name: str) -> "Environment":
        """A copy under another name, without a version."""
        if not isinstance(new_name, str) or not new_name:
            raise UserErrorException("Environment.clone: new_name is %r; a text is needed" % (new_name,))
        made = copy.deepcopy(self)
        made.name, made.version = new_name, None
        return made

    def register(self, workspace: Any) -> "Environment":
        """Keep it under its name, as a new version ('1', '2', ...) unless some version says the same; a copy that has the version.

        Names that begin with AzureML or Microsoft are those of curated environments. UserErrorException for them, and for an index
        with a password in its address. The password of an image's registry becomes a secret.
        """
        from azureml.core import _registry

        return _registry.register(self)

    @staticmethod
    def get(workspace: Any, name: str, version: Optional[str] = None, **_: Any) -> "Environment":
        """The environment that is registered under that name (version: default the latest), or a curated one ('AzureML-...').

        Curated ones stand for what a machine has: 'AzureML-PyTorch-1.6-GPU' asks for torch 1.6, which is what this machine has of
        torch where nothing nearer can be had. UserErrorException for what is neither.
        """
        from azureml.core import _registry

        return _registry.get(name, version)

    @staticmethod
    def list(workspace: Any) -> Dict[str, "Environment"]:
        """The latest versions of registered environments, and the curated ones, by name."""
        from azureml.core import _registry

        return _registry.everyone()

    def build(self, workspace: Any, image_build_compute: Optional[str] = None, **_: Any) -> Any:
        """Build it on this machine, ahead of the runs that use it. What it gives has ``wait_for_completion(show_output=True)``, `status`
        and `log`. An interpreter that has all packages is used as it is, and nothing is built."""
        from azureml.core import _registry

        return _registry.build(workspace, self)

    def build_local(self, workspace: Any, platform: Any = None, **_: Any) -> Any:
        """`build`, and wait until it is built."""
        return self.build(workspace).wait_for_completion(show_output=True)

    def _as_dict(self) -> Dict[str, Any]:
        values = super()._as_dict()
        if not self.legacy_aliases:
            del values["legacyAliases"]  # a file of the SDK has no such key
        return values

    def __repr__(self) -> str:
        return "Environment(name=%s, version=%s)" % (self.name, self.version)


def _with_packages(method: str, name: str, conda: Optional[str], pip: Optional[str]) -> Environment:
    """An environment that asks for a container, with the packages of a file. UserErrorException when both are given."""
    if conda is not None and pip is not None:
        raise UserErrorException("Environment.%s: conda_specification and pip_requirements are both given; give one" % method)
    made = Environment(name)
    if conda is not None:
        made.python.conda_dependencies = CondaDependencies(conda)
    elif pip is not None:
        made.python.conda_dependencies = CondaDependencies._of_requirements(pip, method)
    else:
        made.python.user_managed_dependencies = True
    made.docker.enabled = True
    return made


def environment_of(values: Mapping[str, Any], what: str) -> Environment:
    """The environment that a mapping of a file describes."""
    made = Environment()
    made._take(dict(values), what)
    return made
