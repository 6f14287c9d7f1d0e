"""From the environment of a run configuration to the key `environment` of a run specification (docs/spec/environment.md)."""
import hashlib
import os
import re
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

from azureml.core._service import client, sdk_errors, warn_once
from azureml.core.conda_dependencies import (CONSTRAINT_FILES, REQUIREMENT_FILES, CondaDependencies, is_address, option_of, read_requirements,
                                             spec_list)
from azureml.core.container_registry import ContainerRegistry
from azureml.core.environment import DockerSection, Environment
from azureml.core.runconfig import RunConfiguration
from azureml.exceptions import UserErrorException
from trainyard import errors, packages

AZURE_IMAGES = "mcr.microsoft.com/azureml/"  # what they hold is what a machine has: they stand for no image
FRAMEWORKS = ("torch", "torchvision")        # keys of their own: what a machine has of them is never fetched again
# Options of pip that only say how it goes about its work, or how much it tells.
WITHOUT_EFFECT = frozenset((
    "--no-cache-dir", "--disable-pip-version-check", "-q", "--quiet", "-v", "--verbose", "-U", "--upgrade", "--prefer-binary",
    "--trusted-host", "--timeout", "--default-timeout", "--retries", "--progress-bar", "--use-feature", "--user"))


class Wanted(NamedTuple):
    """Package specifications as users wrote them, and what else conda and pip are told."""

    conda: List[str]
    channels: List[str]
    pip: List[str]
    options: Dict[str, Any]

    @property
    def all(self) -> List[str]:
        """Those that have a name and a version to judge them by."""
        return [s for s in self.conda + self.pip if not is_address(s)]


def wanted(rc: RunConfiguration, directory: str, notes: List[str]) -> Wanted:
    """What a run configuration asks for; a conda file that it names lies in `directory`. UserErrorException."""
    dependencies, file = rc.environment.python.conda_dependencies, rc.environment.python.conda_dependencies_file
    if file:
        dependencies = CondaDependencies(os.path.join(directory, file))
    if dependencies is None:
        return Wanted([], [], [], {})
    pip = spec_list(dependencies.pip_packages, "pip_packages")
    options = _options(list(dependencies.pip_options), [f for f in (dependencies._folder, directory) if f], pip, notes)
    return Wanted(spec_list(dependencies.conda_packages, "conda_packages"), list(dependencies.conda_channels),
                  [_local(spec, directory) for spec in pip], options)


def _options(given: Sequence[str], folders: Sequence[str], pip: List[str], notes: List[str]) -> Dict[str, Any]:
    """The options of pip as keys of `pip`; packages that files of requirements name are added to `pip`."""
    found: Dict[str, Any] = {}
    for option in given:
        name, value = option_of(option)
        if name in REQUIREMENT_FILES:
            lines = read_requirements(_place(value, folders), "the packages ask pip for '%s'" % option)
            pip += [line for line in lines if not line.startswith("-")]
            for key, more in _options([line for line in lines if line.startswith("-")], folders, pip, notes).items():
                found[key] = found.get(key, []) + more if isinstance(more, list) else more
        elif name in CONSTRAINT_FILES:
            lines = read_requirements(_place(value, folders), "the packages ask pip for '%s'" % option)
            found.setdefault("constraints", []).extend(line for line in lines if not line.startswith("-"))
        elif name in ("-i", "--index-url", "--pypi-url"):
            found["index_url"] = value
        elif name == "--extra-index-url":
            found.setdefault("extra_index_urls", []).append(value)
        elif name in ("-f", "--find-links"):
            found.setdefault("find_links", []).append(value if "://" in value else _place(value, folders))
        elif name == "--pre":
            found["pre"] = True
        elif name in WITHOUT_EFFECT:
            notes.append("pip's option '%s' has no effect here" % name)
        else:
            raise UserErrorException("the packages ask pip for '%s': that option is not passed on; list the packages themselves, and give "
                                     "addresses with --index-url, --extra-index-url or --find-links" % masked(option))
    return found


def _place(name: str, folders: Sequence[str]) -> str:
    """Where a file or folder is that an option names: the first of `folders` that has it."""
    places = [os.path.abspath(os.path.join(folder, name)) for folder in folders]
    return next((p for p in places if os.path.exists(p)), places[0])


def _local(spec: str, directory: str) -> str:
    """A path to a package becomes absolute: the machine that builds the environment has no `directory`. A note behind '#' goes."""
    spec = re.split(r"\s#", spec, maxsplit=1)[0].strip()
    if not is_address(spec) or "://" in spec or "@" in spec:
        return spec
    place = os.path.abspath(os.path.join(directory, os.path.expanduser(spec)))
    if not os.path.isfile(place):
        raise UserErrorException("pip_packages: '%s' is no package's name, and there is no such file in '%s'; name a wheel or an archive "
                                 "there, or give the package's name" % (spec, os.path.abspath(directory)))
    return place


def environment(rc: RunConfiguration, asked: Wanted, frameworks: Dict[str, str]) -> Dict[str, Any]:
    """The key `environment`. frameworks: 'torch' and others that the run asks for besides, with their versions ('' any)."""
    made: Dict[str, Any] = {}
    if rc.environment.name:
        made["name"] = rc.environment.name
        if rc.environment.version:
            made["version"] = str(rc.environment.version)
    image = _image(rc)
    if image is not None:
        made["image"] = image
    if rc.environment.python.user_managed_dependencies:
        made["user_managed"] = True
        return made
    python, conda, pip, versions = _parted(asked, {} if image else frameworks)
    if image is not None:  # its own Python runs the script, and what it lacks of the packages is installed on top of it
        conda, pip = ([s for s in specs if not is_ours(s)] for specs in (conda, pip))
        python = None
    made.update(versions)
    if python:
        made["python"] = python
    if conda:
        made["conda"] = {"packages": conda, **({"channels": asked.channels} if asked.channels else {})}
    if pip:
        made["pip"] = {"packages": pip, **asked.options}
    elif asked.options and any(f in made for f in FRAMEWORKS):
        made["pip"] = dict(asked.options)
    return made


def asks(environment: Dict[str, Any]) -> bool:
    """Does the key `environment` ask for anything that an interpreter by itself may lack?"""
    return any(key in environment for key in ("python", "conda", "pip", "image", *FRAMEWORKS))


def _parted(asked: Wanted, frameworks: Dict[str, str]) -> Tuple[Optional[str], List[str], List[str], Dict[str, str]]:
    """(version of Python, conda's packages, pip's packages, versions of FRAMEWORKS): what has a key of its own is in no list."""
    spec = packages.python_of(s for s in asked.conda if not is_address(s))
    versions = dict(frameworks)
    conda: List[str] = []
    pip: List[str] = []
    for specs, rest in ((asked.conda, conda), (asked.pip, pip)):
        for one in specs:
            if is_address(one) or ";" in one or " --hash=" in one:
                rest.append(one)
                continue
            name, clauses = packages.parse(one)
            if name in FRAMEWORKS:
                versions[name] = _version(clauses) or versions.get(name, "")
            elif name != "python" or specs is asked.pip:
                rest.append(one)
    return _version(packages.parse(spec)[1]) if spec else None, conda, pip, versions


def _version(clauses: Sequence[Tuple[str, str]]) -> str:
    """'1.4' for one version, '>=1.0,<2' for others, '' for any."""
    if len(clauses) == 1 and clauses[0][0] in ("=", "==", "==="):
        return re.sub(r"\.?\*$", "", clauses[0][1])
    return ",".join(("==" if operator == "=" else operator) + version for operator, version in clauses)


def is_ours(spec: str) -> bool:
    """Is it what Trainyard itself provides, or what is no part of what a script imports?"""
    if is_address(spec):
        return False
    name = packages.parse(spec)[0]
    return name in packages.IGNORED or bool(packages.PROVIDED.match(name) and name not in packages.NOT_PROVIDED)


# Images

def image_name(rc: RunConfiguration) -> Optional[str]:
    """The image that the run asks for by a name of its own; None: it asks for none. UserErrorException for one that has to be built."""
    docker = rc.environment.docker
    asked = bool(docker.enabled or rc.docker.use_docker)
    if not asked and rc.target in (None, "local"):
        return None  # as in the cloud: this box runs scripts without containers unless it is told to
    if docker.base_dockerfile and not docker.base_image:
        raise UserErrorException("run_config.environment.docker.base_dockerfile asks for an image that has to be built, and Trainyard builds "
                                 "none: build it ('podman build -t NAME .'), and name it in base_image; or give conda or pip packages instead")
    name = docker.base_image
    if name and docker.base_image_registry.address and not name.startswith(docker.base_image_registry.address.rstrip("/") + "/"):
        name = "%s/%s" % (re.sub(r"^https?://", "", docker.base_image_registry.address).rstrip("/"), name)
    if name and not name.startswith(AZURE_IMAGES):
        return name
    if asked:
        warn_once("docker", "the run uses no container: %s" % (
            "Azure's own images hold what a machine has, and stand for no image" if name else "no image is named"), stacklevel=5)
    return None


def _image(rc: RunConfiguration) -> Optional[Dict[str, Any]]:
    name, docker = image_name(rc), rc.environment.docker
    if name is None:
        return None
    made: Dict[str, Any] = {"name": name}
    if docker.base_image_registry.username:
        made.update(user=docker.base_image_registry.username, password_secret=secret_of(docker.base_image_registry))
    arguments = [*(docker.arguments or []), *(rc.docker.arguments or [])]
    size = rc.docker.shm_size or docker.shm_size
    if size:
        made["shm_size"] = str(size)
    if arguments:
        made["arguments"] = [str(a) for a in arguments]
    return made


def secret_of(registry: ContainerRegistry) -> str:
    """The name of the secret that keeps the password of a registry."""
    return "registry-" + hashlib.sha256(("%s\n%s" % (registry.address, registry.username)).encode()).hexdigest()[:16]


def keep_password(docker: DockerSection) -> None:
    """Keep the password of the image's registry as a secret, from where the machine that fetches the image has it."""
    registry = docker.base_image_registry
    name = secret_of(registry)
    with sdk_errors():
        try:
            there: Optional[str] = client().secret(name)
        except errors.NotFound:
            there = None
        if registry.password and registry.password != there:
            client().set_secret(name, registry.password)
        elif there is None:
            raise UserErrorException("the registry of the image '%s' has the user '%s' and no password; set base_image_registry.password"
                                     % (docker.base_image, registry.username))


# What may be shown

def masked(text: str) -> str:
    """`text` without the password, or the token, of an address that stands in it."""
    text = re.sub(r"(://[^/@:\s]*):[^/\s]+@", r"\1:***@", text)
    return re.sub(r"(https?://)[^/@:\s]+:?@", r"\1***@", text)


def shown(environment: Environment) -> Dict[str, Any]:
    """`environment` as the record of a run keeps it: without passwords in the addresses of indexes."""
    values = environment._as_dict()
    conda = values["python"].get("condaDependencies")
    for item in (conda or {}).get("dependencies") or []:
        if isinstance(item, dict):
            item["pip"] = [masked(spec) for spec in item["pip"]]
    return values
