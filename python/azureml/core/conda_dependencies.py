"""The packages that a run asks for.

What the run's interpreter has is used as it is; what it lacks is built once on each machine that runs it (docs/environments.md).
"""
import os
import re
from typing import Any, Dict, Iterable, List, Optional, Tuple

from azureml.core import _conda_file
from azureml.core._section import read_text, write_text
from azureml.exceptions import UserErrorException
from trainyard import packages

PYTHON_DEFAULT_VERSION = "3.11"
TENSORFLOW_DEFAULT_VERSION = "2.1.0"
REQUIREMENT_FILES = ("-r", "--requirement")
CONSTRAINT_FILES = ("-c", "--constraint")
LONG_OPTIONS = {"-r": "--requirement", "-c": "--constraint", "-f": "--find-links", "-i": "--index-url", "-e": "--editable"}
_ADDRESS = re.compile(r"://|@|^[./]|/|\.(whl|zip|tar\.gz)$")


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
        self._folder: Optional[str] = None  # what its options name relatively is looked for there first
        values = _underlying_structure
        if conda_dependencies_file_path is not None:
            if not isinstance(conda_dependencies_file_path, (str, os.PathLike)):
                raise UserErrorException("CondaDependencies: conda_dependencies_file_path is of type %s; the path of a file is needed"
                                         % type(conda_dependencies_file_path).__name__)
            path = os.fspath(conda_dependencies_file_path)
            values = _conda_file.parse(read_text(path, "the conda file"), path)
            self._folder = os.path.dirname(os.path.abspath(path))
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
        """Dependencies of lists. python_version: the run's interpreter has to have its major and minor version, else one of conda
        does, where conda packages have to be installed; else the run says that it has another one."""
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

    @staticmethod
    def _of_requirements(path: str, what: str) -> "CondaDependencies":
        """What a pip requirements file asks for, its options included. UserErrorException when it cannot be read."""
        made = CondaDependencies()
        made._add_requirements(path, what)
        return made

    def _add_requirements(self, path: str, what: str) -> None:
        lines = read_requirements(path, what)
        self._pip += [line for line in lines if not line.startswith("-")]
        self._pip_options += [line for line in lines if line.startswith("-") and line not in self._pip_options]

    def add_conda_package(self, conda_package: str) -> None:
        """Ask for a conda package, in place of another specification of the same package."""
        _replace(self._conda, conda_package)

    def add_pip_package(self, pip_package: str) -> None:
        """Ask for a pip package, in place of another specification of the same package."""
        _replace(self._pip, pip_package)

    def add_channel(self, channel: str) -> None:
        """Look for conda packages in this channel too: a name, or an address (``file://`` too); the first one wins."""
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
        """Give pip an option, in place of another value of it: ``--index-url``, ``--extra-index-url``, ``--find-links``, ``--pre``,
        ``-c FILE``, ``-r FILE``. Others are refused when a run is submitted."""
        if not isinstance(pip_option, str) or not pip_option.startswith("-"):
            raise UserErrorException("set_pip_option: %r is no option of pip such as '--pre'" % (pip_option,))
        self.remove_pip_option(pip_option)
        self._pip_options.append(pip_option)

    def remove_pip_option(self, pip_option: str) -> None:
        """Remove an option of pip, whatever its value."""
        name = _option(str(pip_option))
        self._pip_options[:] = [o for o in self._pip_options if _option(o) != name]

    def set_pip_index_url(self, index_url: str) -> None:
        """Name the index that pip asks in place of its own."""
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
    """The lines of a pip requirements file: specifications, and options that begin with '-'; files that it names by ``-r`` are read
    in their place, and those that it names by ``-c`` and ``-f`` have their whole path. UserErrorException when it cannot be read."""
    return _requirements(os.path.abspath(os.fspath(path)), what, [])


def _requirements(path: str, what: str, outer: List[str]) -> List[str]:
    if path in outer:
        raise UserErrorException("%s: '%s' reads itself, by way of '%s'" % (what, path, outer[-1]))
    found: List[str] = []
    for line in re.sub(r"\\\r?\n", " ", read_text(path, "%s: the file" % what)).splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()
        name, value = option_of(line) if line.startswith("-") else ("", "")
        place = os.path.join(os.path.dirname(path), value)
        if name in REQUIREMENT_FILES:
            found += _requirements(os.path.abspath(place), what, [*outer, path])
        elif name in CONSTRAINT_FILES:
            found.append("--constraint %s" % os.path.abspath(place))
        elif name in ("-f", "--find-links") and "://" not in value:
            found.append("--find-links %s" % os.path.abspath(place))
        elif name:
            found.append(line)
        elif line:
            line = re.sub(r"\s+--hash[=\s]\s*(\S+)", r" --hash=\1", line)
            if not is_address(line):
                _parsed(line, "%s: '%s'" % (what, path))
            found.append(line)
    return found


def option_of(text: str) -> Tuple[str, str]:
    """An option of pip and its value: '-fPLACE', '-f PLACE', '--find-links=PLACE' or '--find-links PLACE'."""
    match = re.match(r"(--[\w-]+|-\w)[=\s]*(.*)$", text.strip(), re.S)
    return (match.group(1), match.group(2).strip()) if match else (text, "")


def is_address(spec: str) -> bool:
    """Does pip find the package by an address or a path, instead of by its name?"""
    return bool(_ADDRESS.search(re.split(r"\s;|;\s", spec.split("::", 1)[-1])[0]))


def name_of(spec: str) -> str:
    """By what a specification is found again: its package's name, and its marker; of an address without a name the text itself."""
    named = re.match(r"([\w.-]+)\s*(?:\[[^]]*\])?\s*@", spec)
    marker = re.sub(r"\s--hash\b.*", "", spec.partition(";")[2]).strip()
    name = packages.normal(named.group(1)) if named else spec if is_address(spec) else packages.parse(spec)[0]
    return "%s;%s" % (name, marker) if marker and not is_address(spec) else name


def _parsed(spec: Any, what: str) -> str:
    if not isinstance(spec, str):
        raise UserErrorException("%s: %r is of type %s; a text such as 'numpy' is needed" % (what, spec, type(spec).__name__))
    try:
        return name_of(spec)
    except packages.SpecError as error:
        raise UserErrorException("%s: %s" % (what, error)) from None


def _replace(specs: List[str], spec: str) -> None:
    name = _parsed(spec, "package")
    specs[:] = [s for s in specs if name_of(s) != name] + [spec]


def _option(text: str) -> str:
    """The option itself, without its value, in its long form."""
    name = option_of(text)[0]
    return LONG_OPTIONS.get(name, name)


def _remove(specs: List[str], spec: str) -> None:
    name = _parsed(spec, "package")
    clauses = is_address(spec) or packages.parse(spec)[1]
    specs[:] = [s for s in specs if s != spec and (clauses or name_of(s).partition(";")[0] != name)]
