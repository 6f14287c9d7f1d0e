"""The packages that a run asks for.

Nothing is installed by this release: what the run's interpreter has is accepted, anything else is refused by name at submission.
"""
import os
from typing import Any, Dict, Iterable, List, Optional

from azureml.core import _conda_file
from azureml.core._section import read_text, write_text
from azureml.exceptions import UserErrorException
from trainyard import packages

PYTHON_DEFAULT_VERSION = "3.11"
TENSORFLOW_DEFAULT_VERSION = "2.1.0"


class CondaDependencies:
    """Conda and pip packages, and channels; changed by add_ and remove_ methods. Removing what is not there does nothing.

    Two of them are equal when they ask for the same packages, options and channels, whatever their name.
    conda_dependencies_file_path: a file to begin with; UserErrorException when it cannot be read.
    """

    def __init__(self, conda_dependencies_file_path: Optional[str] = None,
                 _underlying_structure: Optional[Dict[str, Any]] = None) -> None:
        self._name = "project_environment"
        self._conda: List[str] = []
        self._pip: List[str] = []
        self._channels: List[str] = []
        self._pip_options: List[str] = []
        values = _underlying_structure
        if conda_dependencies_file_path is not None:
            if not isinstance(conda_dependencies_file_path, (str, os.PathLike)):
                raise UserErrorException("CondaDependencies: conda_dependencies_file_path is of type %s; the path of a file is needed"
                                         % type(conda_dependencies_file_path).__name__)
            path = os.fspath(conda_dependencies_file_path)
            values = _conda_file.parse(read_text(path, "the conda file"), path)
        self._load(values or {})

    def _load(self, values: Dict[str, Any]) -> None:
        self._name = values.get("name", self._name)
        self._channels = list(values.get("channels", []))
        for item in values.get("dependencies", []):
            if isinstance(item, dict):
                for spec in item.get("pip", []):
                    (self._pip_options if str(spec).startswith("-") else self._pip).append(str(spec))
            else:
                self._conda.append(str(item))

    @staticmethod
    def create(pip_indexurl: Optional[str] = None, pip_packages: Optional[Iterable[str]] = None,
               conda_packages: Optional[Iterable[str]] = None, python_version: Optional[str] = None,
               pin_sdk_version: bool = True) -> "CondaDependencies":
        """Dependencies of lists. python_version: a major and minor version, checked against the run's interpreter."""
        made = CondaDependencies()
        if python_version is not None:
            made.set_python_version(python_version)
        for spec in spec_list(conda_packages, "conda_packages"):
            made.add_conda_package(spec)
        for spec in spec_list(pip_packages, "pip_packages"):
            made.add_pip_package(spec)
        if pip_indexurl:
            made.set_pip_index_url(pip_indexurl)
        return made

    def add_conda_package(self, conda_package: str) -> None:
        """Ask for a conda package, in place of another specification of the same package."""
        _replace(self._conda, conda_package)

    def add_pip_package(self, pip_package: str) -> None:
        """Ask for a pip package, in place of another specification of the same package."""
        _replace(self._pip, pip_package)

    def add_channel(self, channel: str) -> None:
        """Name a channel. Nothing is fetched, so it is only kept."""
        if channel not in self._channels:
            self._channels.append(channel)

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove a specification, or all of that package's."""
        _remove(self._conda, conda_package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove a specification, or all of that package's."""
        _remove(self._pip, pip_package)

    def remove_channel(self, channel: str) -> None:
        """Remove a channel."""
        if channel in self._channels:
            self._channels.remove(channel)

    def add_tensorflow_conda_package(self, core_type: str = "cpu", version: Optional[str] = None) -> None:
        """Ask for tensorflow from conda."""
        self.add_conda_package("tensorflow%s=%s" % ("-gpu" if core_type == "gpu" else "", version or TENSORFLOW_DEFAULT_VERSION))

    def add_tensorflow_pip_package(self, core_type: str = "cpu", version: Optional[str] = None) -> None:
        """Ask for tensorflow from pip."""
        self.add_pip_package("tensorflow%s==%s" % ("-gpu" if core_type == "gpu" else "", version or TENSORFLOW_DEFAULT_VERSION))

    def set_python_version(self, version: str) -> None:
        """Ask for a version of Python, for example '3.11'."""
        _parsed("python=%s" % (version,), "set_python_version")
        self.remove_conda_package("python")
        self._conda.insert(0, "python=%s" % version)

    def get_python_version(self) -> Optional[str]:
        """What was asked for, or None."""
        spec = packages.python_of(self._conda)
        return None if spec is None else packages.parse(spec)[1][-1][1] if packages.parse(spec)[1] else None

    def set_pip_option(self, pip_option: str) -> None:
        """Keep an option of pip, in place of another value of it. Nothing is fetched, so it has no effect."""
        if not isinstance(pip_option, str) or not pip_option.startswith("-"):
            raise UserErrorException("set_pip_option: %r is no option of pip such as '--pre'" % (pip_option,))
        self.remove_pip_option(pip_option)
        self._pip_options.append(pip_option)

    def remove_pip_option(self, pip_option: str) -> None:
        """Remove an option of pip, whatever its value."""
        name = _option(str(pip_option))
        self._pip_options[:] = [o for o in self._pip_options if _option(o) != name]

    def set_pip_index_url(self, index_url: str) -> None:
        """Keep the address of an index. Nothing is fetched, so it has no effect."""
        self.set_pip_option("--index-url %s" % index_url)

    @property
    def conda_packages(self) -> Iterable[str]:
        """The conda specifications."""
        return list(self._conda)

    @property
    def pip_packages(self) -> Iterable[str]:
        """The pip specifications."""
        return list(self._pip)

    @property
    def pip_options(self) -> Iterable[str]:
        """The options of pip."""
        return list(self._pip_options)

    @property
    def conda_channels(self) -> Iterable[str]:
        """The channels."""
        return list(self._channels)

    def as_dict(self) -> Dict[str, Any]:
        """The structure of a conda file."""
        nested = self._pip_options + self._pip
        values: Dict[str, Any] = {"name": self._name, "dependencies": self._conda + ([{"pip": nested}] if nested else [])}
        if self._channels:
            values["channels"] = list(self._channels)
        return values

    def serialize_to_string(self) -> str:
        """The text of a conda file."""
        return _conda_file.dump(self.as_dict())

    def save_to_file(self, base_directory: str, conda_file_path: str = "conda_dependencies.yml") -> str:
        """Write a conda file; its name."""
        write_text(os.path.join(base_directory, conda_file_path), self.serialize_to_string(), "the conda file")
        return conda_file_path

    def save(self, path: Optional[str] = None) -> str:
        """Write a conda file at `path` (default: ``conda_dependencies.yml`` in the current folder); its path."""
        place = os.fspath(path) if path is not None else "conda_dependencies.yml"
        write_text(place, self.serialize_to_string(), "the conda file")
        return place

    def __eq__(self, other: object) -> bool:
        return isinstance(other, CondaDependencies) and dict(self.as_dict(), name="") == dict(other.as_dict(), name="")

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return "CondaDependencies(%r)" % self.as_dict()


def spec_list(value: Any, what: str) -> List[str]:
    """A list of package specifications that a user gave as `what`. UserErrorException for anything else."""
    if value is None:
        return []
    if isinstance(value, str) or not isinstance(value, Iterable):
        raise UserErrorException("%s is %r; a list of texts such as ['numpy'] is needed" % (what, value))
    specs = list(value)
    for spec in specs:
        _parsed(spec, what)
    return specs


def read_requirements(path: str, what: str) -> List[str]:
    """The specifications of a pip requirements file. UserErrorException when it cannot be read."""
    lines = [line.strip() for line in read_text(path, "%s: the file" % what).replace("\\\n", " ").split("\n")]
    specs = []
    for line in lines:
        if not line or line.startswith("#") or line.startswith(("--index-url", "-i ", "--extra-index-url", "--find-links", "-f ")):
            continue
        if line.startswith("-"):
            raise UserErrorException("%s: the line '%s' of '%s' is not supported; list the packages themselves" % (what, line, path))
        specs.append(line)
    return spec_list(specs, what)


def _parsed(spec: Any, what: str) -> str:
    if not isinstance(spec, str):
        raise UserErrorException("%s: %r is of type %s; a text such as 'numpy' is needed" % (what, spec, type(spec).__name__))
    try:
        return packages.parse(spec)[0]
    except packages.SpecError as error:
        raise UserErrorException("%s: %s" % (what, error)) from None


def _replace(specs: List[str], spec: str) -> None:
    name = _parsed(spec, "package")
    specs[:] = [s for s in specs if packages.parse(s)[0] != name] + [spec]


def _option(text: str) -> str:
    """The option itself, without its value."""
    return text.replace("=", " ").split(" ", 1)[0]


def _remove(specs: List[str], spec: str) -> None:
    _parsed(spec, "package")
    name, clauses = packages.parse(spec)
    specs[:] = [s for s in specs if s != spec and (clauses or packages.parse(s)[0] != name)]
