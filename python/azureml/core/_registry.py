"""Environments that are registered by name, curated ones, and building them ahead of a run."""
import copy
import re
import tempfile
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Tuple

from azureml.core import _run_wait
from azureml.core._service import client, sdk_errors
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.environment import Environment
from azureml.exceptions import UserErrorException
from trainyard import errors
from trainyard.client import Record

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace

BUILD_LOG = "azureml-logs/20_image_build_log.txt"
BUILDS = "prepare_environment"  # the experiment of runs that only build
RESERVED = re.compile(r"(azureml|microsoft)", re.I)

# Images of the cloud, by what their names say: the packages that make up what scripts use of them. torch and torchvision that a machine
# has are used whatever their version; azureml-* and horovod are Trainyard's own.
_OURS = ["azureml-core", "azureml-defaults"]
_CURATED: List[Tuple[str, Any]] = [
    (r"azureml-(minimal|tutorial|designer)\b", lambda m: []),
    (r"azureml-(?:acpt-)?pytorch-(\d+(?:\.\d+)+)\b", lambda m: ["torch==%s" % m.group(1), "horovod"]),
    (r"azureml-(?:acpt-)?pytorch\b", lambda m: ["torch", "horovod"]),
    (r"azureml-(?:scikit-learn|sklearn)-(\d+(?:\.\d+)+)\b", lambda m: ["scikit-learn"]),
    (r"azureml-(?:scikit-learn|sklearn)\b", lambda m: ["scikit-learn"]),
    (r"azureml-tensorflow-(\d+(?:\.\d+)+)\b", lambda m: ["tensorflow==%s.*" % m.group(1), "horovod"]),
    (r"azureml-chainer-(\d+(?:\.\d+)+)\b", lambda m: ["chainer==%s.*" % m.group(1), "horovod"]),
]
LISTED = ("AzureML-Minimal", "AzureML-Tutorial", "AzureML-Scikit-learn-0.20.3", "AzureML-PyTorch-1.0-CPU", "AzureML-PyTorch-1.0-GPU",
          "AzureML-PyTorch-1.1-CPU", "AzureML-PyTorch-1.1-GPU", "AzureML-PyTorch-1.2-CPU", "AzureML-PyTorch-1.2-GPU",
          "AzureML-PyTorch-1.3-CPU", "AzureML-PyTorch-1.3-GPU", "AzureML-PyTorch-1.4-CPU", "AzureML-PyTorch-1.4-GPU",
          "AzureML-PyTorch-1.5-CPU", "AzureML-PyTorch-1.5-GPU", "AzureML-PyTorch-1.6-CPU", "AzureML-PyTorch-1.6-GPU")


def curated(name: str, version: Optional[str] = None) -> Optional[Environment]:
    """The curated environment of that name, or None."""
    for pattern, packages_of in _CURATED:
        match = re.match(pattern, name, re.I)
        if match:
            made = Environment(name)
            made.version = str(version or "1")
            made.python.conda_dependencies = CondaDependencies.create(pip_packages=_OURS + packages_of(match))
            return made
    return None


def register(environment: Environment) -> Environment:
    """A copy of `environment`, with the version under which the service has it."""
    from azureml.core import _packages
    from azureml.core.runconfig import RunConfiguration

    if not isinstance(environment.name, str):
        raise UserErrorException("Environment.register: it has no name; make it with Environment('name')")
    if "/" in environment.name:
        raise UserErrorException("Environment.register: '%s' cannot be the name of an environment: it has a '/'" % environment.name)
    made = copy.deepcopy(environment)
    made.version = None
    rc = RunConfiguration()
    rc.environment = made
    asked = _packages.wanted(rc, ".", [])
    options = [*map(str, asked.options.values()), *asked.pip]
    if any(_packages.masked(text) != text for text in options):
        raise UserErrorException("Environment.register: '%s' names an index with a password in its address, which whoever gets the "
                                 "environment would see; leave it out, and set it in the script that uses the environment" % made.name)
    spec = _packages.environment(rc, asked, {})
    spec.pop("name", None)
    if "password_secret" in spec.get("image", {}):
        _packages.keep_password(made.docker)
    content = {"spec": spec, "azureml": made._as_dict(), "environment_variables": {
        str(k): str(v) for k, v in (made.environment_variables or {}).items()}}
    with sdk_errors():
        made.version = str(client().register("environment", environment.name, content)["version"])
    return made


def get(name: str, version: Optional[str] = None) -> Environment:
    """A registered or curated environment. UserErrorException when there is none of that name and version."""
    if not isinstance(name, str) or not name:
        raise UserErrorException("Environment.get: name is %r; a text is needed" % (name,))
    if RESERVED.match(name):
        found = curated(name, version)
        if found is None:
            raise UserErrorException("there is no curated environment '%s'; there are %s, and others of their families" % (
                name, ", ".join("'%s'" % known for known in LISTED)))
        return found
    try:
        with sdk_errors():
            return of_record(client().registered("environment", name, str(version or "latest")))
    except UserErrorException as error:
        if version is None and isinstance(error.inner_exception, errors.NotFound):
            with sdk_errors():
                names = [r["name"] for r in client().registered_names("environment")]
            raise UserErrorException("there is no environment '%s'; registered are %s, and there are the curated ones (AzureML-...)" % (
                name, ", ".join("'%s'" % known for known in names) or "none"), error.inner_exception) from None
        raise


def everyone() -> Dict[str, Environment]:
    """The latest version of each registered environment, and the curated ones."""
    found = {name: made for name, made in ((name, curated(name)) for name in LISTED) if made is not None}
    with sdk_errors():
        found.update((r["name"], of_record(r)) for r in client().registered_names("environment"))
    return found


def of_record(record: Record) -> Environment:
    """The environment of REGISTERED. One that the SDK has not registered has what its specification says."""
    content = record["content"]
    made = Environment()
    if content.get("azureml"):
        made._take(content["azureml"], "the environment '%s'" % record["name"])
        if content["azureml"].get("python", {}).get("condaDependencies") is None:
            made.python.conda_dependencies = None
        if content["azureml"].get("docker", {}).get("baseImage") is None:
            made.docker.base_image = None
    else:
        _take_spec(made, content.get("spec") or {})
        made.environment_variables = dict(content.get("environment_variables") or {})
    made.name, made.version = record["name"], str(record["version"])
    return made


def _take_spec(made: Environment, spec: Record) -> None:
    pip, conda = spec.get("pip") or {}, spec.get("conda") or {}
    wanted = made.python.conda_dependencies = CondaDependencies.create(conda_packages=conda.get("packages"), pip_packages=pip.get("packages"))
    for name in ("torch", "torchvision"):
        if name in spec:
            version = spec[name]
            wanted.add_pip_package(name + ("" if not version else version if version[0] in "<>=!~" else "==" + version))
    if spec.get("python"):
        wanted.add_conda_package("python" + (spec["python"] if spec["python"][0] in "<>=!~" else "=" + spec["python"]))
    for channel in conda.get("channels") or []:
        wanted.add_channel(channel)
    wanted._pip_options += [*(["--index-url %s" % pip["index_url"]] if pip.get("index_url") else []), *(["--pre"] if pip.get("pre") else []),
                            *("--extra-index-url %s" % url for url in pip.get("extra_index_urls") or []),
                            *("--find-links %s" % url for url in pip.get("find_links") or [])]
    made.python.user_managed_dependencies = bool(spec.get("user_managed"))
    image = spec.get("image")
    if image:
        made.docker.enabled, made.docker.base_image, made.docker.shm_size = True, image["name"], image.get("shm_size")
        made.docker.arguments = list(image.get("arguments") or [])


class ImageBuildDetails:
    """An environment that is being built on this machine, by a run of the experiment ``prepare_environment``."""

    def __init__(self, workspace: "Workspace", record: Record, environment: Environment) -> None:
        self._workspace, self._run, self._environment = workspace, record["id"], environment

    @property
    def status(self) -> str:
        """The state of that run."""
        with sdk_errors():
            return str(client().run(self._run)["state"])

    @property
    def log(self) -> str:
        """What the build has said so far; '' when nothing had to be built."""
        with sdk_errors():
            return client().logs(self._run, BUILD_LOG)

    @property
    def environment_definition(self) -> Environment:
        """What is built."""
        return self._environment

    def wait_for_completion(self, show_output: bool = True) -> "ImageBuildDetails":
        """Wait until it is built. show_output: print the log as it comes. UserErrorException when it cannot be built."""
        record: Optional[Record] = None
        with sdk_errors(), client().follow(self._run, BUILD_LOG if show_output else "") as events:
            for event in events:
                if event.kind == "log":
                    _run_wait.emit(event.text)
                elif event.kind == "end":
                    record = event.data
        if record is None:
            with sdk_errors():
                record = client().run(self._run)
        if record["state"] != "Completed":
            raise UserErrorException("the environment '%s' was not built: %s" % (
                self._environment.name, (record.get("error") or {}).get("message") or "the build is %s" % record["state"]))
        if show_output:
            came = record.get("environment") or {}
            _run_wait.emit("Environment '%s': %s\n" % (self._environment.name, "built in %.1f s" % came["seconds"] if came.get("built") else
                                                       "in the cache" if came.get("prefix") else "the interpreter has all that it asks for"))
        return self

    def __repr__(self) -> str:
        return "ImageBuildDetails(environment=%r, run=%r)" % (self._environment.name, self._run)


def build(workspace: "Workspace", environment: Environment) -> ImageBuildDetails:
    """Build it on this machine, as a run with it would."""
    from azureml.core import _submit
    from azureml.core.script_run_config import ScriptRunConfig

    with tempfile.TemporaryDirectory() as nothing:
        config = ScriptRunConfig(nothing, command=["python", "--version"], environment=environment)
        return ImageBuildDetails(workspace, _submit.submit(BUILDS, config), environment)
