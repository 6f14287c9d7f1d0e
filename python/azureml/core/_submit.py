"""From a ScriptRunConfig to a submitted run.

Everything that can be refused without the service is refused first, then the target is looked up, then the snapshot is stored;
the run itself is one request, so nothing is left half-done.
"""
import os
import re
import shlex
import warnings
from typing import Any, Dict, List, Mapping, Optional, Tuple

import trainyard
from azureml._restclient import snapshots_client
from azureml.core import _arguments, _git, _packages, _processes
from azureml.core._definition import PROCESS_FILES, run_definition
from azureml.core._progress import Progress
from azureml.core._section import count_of
from azureml.core._service import client, cloud_only, later, sdk_errors
from azureml.core.compute_target import ComputeTarget
from azureml.core.conda_dependencies import CondaDependencies, is_address
from azureml.core.environment import DockerSection, Environment, PythonSection
from azureml.core.runconfig import (DEFAULT_MAX_RUN_SECONDS, AmlComputeConfiguration, DockerConfiguration, HdiConfiguration,
                                    HistoryConfiguration, MpiConfiguration, PyTorchConfiguration, RunConfiguration,
                                    SparkConfiguration, TensorflowConfiguration, positive)
from azureml.core.script_run_config import ScriptRunConfig
from azureml.data.datapath import DataPath
from azureml.data.dataset_consumption_config import NAMES
from azureml.exceptions import ComputeTargetException, ExperimentExecutionException, SnapshotException, UserErrorException
from trainyard import errors, interpreter, packages

LEGACY = os.path.join(os.path.dirname(os.path.abspath(trainyard.__file__)), "legacy")
KEPT = ("outputs", "logs")
PRIORITY_MAX = 1000
IGNORE_FILES = (".amlignore", ".gitignore")
FOR_THIS_RUN = ("amlcompute", "containerinstance")  # targets that the cloud makes for one run; here they are this box
_PLACEHOLDER = re.compile(r"\$(?:AZUREML_DATAREFERENCE_(\w+)|\{AZUREML_DATAREFERENCE_(\w+)\})")


def submit(experiment: str, config: ScriptRunConfig, tags: Optional[Mapping[str, Any]] = None,
           parent: Optional[str] = None) -> Dict[str, Any]:
    """Submit to `experiment`, below the run `parent`, and return RUN. Warns for each warning that the run begins with."""
    spec = specification(config, tags)
    spec["parent"] = parent
    if "password_secret" in spec["environment"].get("image", {}):
        _packages.keep_password(config.run_config.environment.docker)
    check_target(spec["target"])
    spec["snapshot"] = store_snapshot(config.source_directory, spec.get("script"))
    spec["properties"] = {"_azureml.ComputeTargetType": "local" if spec["target"] == "local" else "amlcompute",
                          "ContentSnapshotId": spec["snapshot"], **PROCESS_FILES, **_git.properties(config.source_directory)}
    try:
        with sdk_errors():
            run = client().submit(experiment, spec)
    except UserErrorException:
        raise
    except Exception as error:
        if isinstance(getattr(error, "inner_exception", None), errors.ConnectionLost):
            raise ExperimentExecutionException("%s; the run may have been submitted or not ('trainyard ps' shows it)" % error,
                                               error) from None
        raise
    for text in run["warnings"]:
        warnings.warn(text, UserWarning, stacklevel=4)
    return run


def specification(config: ScriptRunConfig, tags: Optional[Mapping[str, Any]] = None) -> Dict[str, Any]:
    """The run specification (docs/spec/run-spec.md) of a configuration, without its snapshot. UserErrorException."""
    rc = config.run_config
    check_tree(rc)
    processes = _processes.of(rc)
    references = _arguments.as_references(rc.data_references)
    _arguments.add_data(references, rc.data)
    given = _arguments.words(config.arguments, references)
    if config.resume_from is not None:
        given += resume_words(config.resume_from, references)
    check_source(config.source_directory)
    notes = [*unwatched(rc)]
    asked = _packages.wanted(rc, config.source_directory, notes)
    chosen, frameworks = choose_interpreter(config, asked, notes)
    spec: Dict[str, Any] = {
        "version": 1, "target": target_name(rc.target), "source_directory": os.path.realpath(config.source_directory),
        "interpreter": chosen, "arguments": given, "use_gpu": bool(config._use_gpu), "warnings": notes,
        "node_count": processes.node_count, "process_count_per_node": processes.process_count_per_node,
        "communicator": processes.communicator, "max_run_duration_seconds": duration(rc.max_run_duration_seconds),
        "tags": {str(k): None if v is None else str(v) for k, v in (tags or {}).items()},
        "environment_variables": _arguments.environment_variables(
            ("environment.environment_variables", rc.environment.environment_variables),
            ("environment_variables", rc.environment_variables)),
        "environment": _packages.environment(rc, asked, frameworks),
    }
    if rc.priority is not None:
        spec["priority"] = priority(rc.priority)
    if rc.max_restarts is not None:
        spec["max_restarts"] = _processes.restarts(rc.max_restarts)
    if rc.hang_timeout_seconds is not None:
        spec["hang_timeout_seconds"] = count_of(rc.hang_timeout_seconds, "run_config.hang_timeout_seconds")
    if rc.legacy_aliases or rc.environment.legacy_aliases:
        add_legacy_aliases(spec["environment_variables"], config.source_directory, notes)
    if config.script:
        spec["script"] = entry_path(config.source_directory, config.script, config._script_word)
        if named_interpreter(rc) is None:
            spec["interpreter_any"] = True  # another machine may have another one
    else:
        del spec["interpreter"]  # a command names its program itself
        add_command(spec, command_line(config.command, None if _packages.asks(spec["environment"]) else chosen, references), chosen, given)
    datasets, places = _arguments.take_datasets(references)
    if places:
        taken = [name for name in places if name in spec["environment_variables"]]
        if taken:
            raise UserErrorException("environment_variables has '%s', which is the name of a dataset; give one of them another name" % taken[0])
        spec["environment_variables"].update(places, **{NAMES: ",".join(places)})
        spec["expand_variables"] = list(places)
    spec["data_references"] = {name: {"datastore": one.datastore_name, "path": one.path_on_datastore or "", "mode": one.mode,
                                      "path_on_compute": one.path_on_compute, "overwrite": bool(one.overwrite)}
                               for name, one in references.items()}
    check_placeholders(spec)
    spec["azureml"] = {"runDefinition": run_definition(config, spec)}
    spec["azureml"]["runDefinition"]["data"] = {name: one._as_dict() for name, one in datasets.items()}
    return spec


def priority(value: Any) -> int:
    """``run_config.priority``: higher starts earlier."""
    if isinstance(value, bool) or not isinstance(value, int) or not -PRIORITY_MAX <= value <= PRIORITY_MAX:
        raise UserErrorException("priority is %r; a whole number from %d to %d is needed" % (value, -PRIORITY_MAX, PRIORITY_MAX))
    return value


def check_tree(rc: RunConfiguration) -> None:
    """UserErrorException, by its name, for an attribute of a run configuration that holds something of another kind."""
    for name, kind in (("environment", Environment), ("environment.python", PythonSection), ("environment.docker", DockerSection),
                       ("environment.python.conda_dependencies", CondaDependencies), ("docker", DockerConfiguration),
                       ("mpi", MpiConfiguration), ("pytorch", PyTorchConfiguration), ("tensorflow", TensorflowConfiguration),
                       ("history", HistoryConfiguration),
                       ("amlcompute", AmlComputeConfiguration), ("spark", SparkConfiguration), ("hdi", HdiConfiguration)):
        value: Any = rc
        for part in name.split("."):
            value = getattr(value, part)
        if not isinstance(value, kind) and not (value is None and kind is CondaDependencies):
            raise UserErrorException("run_config.%s is of type %s; a %s is needed" % (name, type(value).__name__, kind.__name__))
    for name, value in (("legacy_aliases", rc.legacy_aliases), ("environment.legacy_aliases", rc.environment.legacy_aliases)):
        if not isinstance(value, bool):
            raise UserErrorException("run_config.%s is %r; True or False is needed" % (name, value))
    if rc.output_data:
        raise later("run_config.output_data: a dataset", "give the run a DataReference, for example datastore.path('x').as_upload()")
    cloud_only("run_config.source_directory_data_store", bool(rc.source_directory_data_store))


def add_legacy_aliases(variables: Dict[str, str], directory: str, notes: List[str]) -> None:
    """Put the folder that restores old names of libraries on the job's PYTHONPATH."""
    variables["PYTHONPATH"] = os.pathsep.join(p for p in (LEGACY, variables.get("PYTHONPATH")) if p)
    if os.path.exists(os.path.join(directory, "sitecustomize.py")):
        notes.append("legacy_aliases has no effect, because source_directory has a sitecustomize.py of its own, which Python runs instead")


def unwatched(rc: RunConfiguration) -> List[str]:
    """A note when directories are named whose files will not be kept."""
    others = [str(d) for d in rc.history.directories_to_watch or [] if os.path.normpath(str(d)) not in KEPT]
    return ["history.directories_to_watch names %s: only files in outputs/ and logs/ are kept" % ", ".join("'%s'" % d for d in others)
            ] if others else []


def target_name(target: Any) -> str:
    """The name of a compute target that was given as object, name or None."""
    if target is None:
        return "local"
    if isinstance(target, ComputeTarget):
        return target.name
    if not isinstance(target, str):
        raise UserErrorException("compute_target is of type %s; a ComputeTarget, its name, or 'local' is needed"
                                 % type(target).__name__)
    return "local" if target.lower() in ("local", *FOR_THIS_RUN) else target


def check_target(name: str) -> None:
    """ComputeTargetException for an unknown one."""
    try:
        with sdk_errors(ComputeTargetException):
            client().target(name)
    except ComputeTargetException as error:
        if isinstance(error.inner_exception, errors.NotFound):
            raise ComputeTargetException("there is no compute target '%s'; ComputeTarget.create makes one, and 'local' is this box"
                                         % name, error.inner_exception) from None
        raise


def duration(seconds: Any) -> int:
    """``max_run_duration_seconds``; None for the default of 30 days."""
    if seconds is None:
        return DEFAULT_MAX_RUN_SECONDS
    return positive(int(seconds) if isinstance(seconds, float) and seconds.is_integer() else seconds, "max_run_duration_seconds")


def check_source(directory: Any) -> None:
    """UserErrorException unless it is a directory that can be read."""
    if not isinstance(directory, (str, os.PathLike)):
        raise UserErrorException("source_directory is of type %s; the path of a folder is needed" % type(directory).__name__)
    if not os.path.exists(directory):
        raise UserErrorException("source_directory '%s' does not exist (looked for in '%s'); give the path of the folder with your "
                                 "script" % (directory, os.getcwd()))
    if not os.path.isdir(directory):
        raise UserErrorException("source_directory '%s' is not a folder; give the folder that your script lies in" % directory)


def entry_path(directory: str, script: Any, word: str = "entry_script") -> str:
    """The entry script relative to source_directory; `word` is the user's for it. UserErrorException when it is missing or lies
    outside."""
    if not isinstance(script, (str, os.PathLike)):
        raise UserErrorException("%s is of type %s; a path in source_directory is needed" % (word, type(script).__name__))
    root = os.path.realpath(directory)
    path = os.path.normpath(os.path.join(root, os.fspath(script)))
    real = os.path.realpath(path)
    for place in (path, real):
        if os.path.commonpath([root, place]) != root:
            raise UserErrorException("%s '%s' lies outside of source_directory '%s'; move it in, and give it relative to it"
                                     % (word, script, directory))
    if not os.path.isfile(real):
        raise UserErrorException("%s '%s' is not a file in source_directory '%s'%s" % (
            word, script, directory, "; what is there: " + ", ".join(_scripts(root)) if _scripts(root) else ""))
    return os.path.relpath(path, root)


def _scripts(root: str) -> List[str]:
    return ["'%s'" % name for name in sorted(os.listdir(root)) if name.endswith(".py")][:5]


def resume_words(resume_from: Any, references: _arguments.References) -> List[str]:
    """``--resume-from <directory>`` of a DataPath with checkpoints."""
    if not isinstance(resume_from, DataPath):
        raise UserErrorException("resume_from is of type %s; a DataPath is needed" % type(resume_from).__name__)
    reference = resume_from.create_data_reference("MODEL_LOCATION")
    _arguments.add_reference(references, reference, "resume_from")
    return ["--resume-from", str(reference)]


def command_line(command: Any, python: Optional[str], references: _arguments.References) -> str:
    """The text that the worker's shell runs. python: what a leading 'python' is; None: as the worker has it."""
    if isinstance(command, str):
        text = command
    elif isinstance(command, (list, tuple)):
        text = " ".join(_shell_word(w) for w in _arguments.words(command, references, "command"))
    else:
        raise UserErrorException("command is of type %s; a list or a text is needed" % type(command).__name__)
    return re.sub(r"\Apython3?(?=\s|\Z)", lambda found: found.group() if python is None else shlex.quote(python), text.strip())


def add_command(spec: Dict[str, Any], text: str, chosen: str, given: List[str]) -> None:
    """The run's command: a shell with `text` and the arguments `given`. With an environment of its own, which gives `python3`, a plain
    call of python needs no shell, and says by `chosen` on which interpreter that environment is based."""
    text = " ".join([text, *map(_shell_word, given)])
    spec["command"], spec["expand"], spec["arguments"] = ["/bin/sh", "-c", text], False, []
    if "image" in spec["environment"] or not _packages.asks(spec["environment"]):
        return
    python, _, rest = re.sub(r'"(\$\{?\w+\}?[\w./-]*)"', r"\1", text).partition(" ")
    if re.match(r"python3?\Z", python):
        if not re.search(r"[|&;<>()`*?\[\]~#\n\\'\"]|\$[^A-Za-z_{]", rest):
            spec["command"], spec["expand"] = [chosen, *rest.split()], True
        else:
            spec["command"][2] = "python3 " + text.partition(" ")[2]


def _shell_word(text: str) -> str:
    """A word for the shell that may name variables and operators; one with blanks or quotes is kept together."""
    if text and not re.search(r"[\s'\"\\`*?$]", text):
        return text
    return '"%s"' % re.sub(r'(["\\`])', r"\\\1", text)


def check_placeholders(spec: Dict[str, Any]) -> None:
    """An argument that names a data reference which the run does not have would reach the script as it is."""
    known = set(spec["data_references"])
    for text in [*spec["arguments"], *spec.get("command", [])]:
        for match in _PLACEHOLDER.finditer(text):
            name = match.group(1) or match.group(2)
            if name not in known:
                raise UserErrorException("the argument '%s' names the data reference '%s', which the run does not have; pass the "
                                         "DataReference itself, or add it to run_config.data_references" % (text, name))


def named_interpreter(rc: RunConfiguration) -> Optional[str]:
    """The interpreter that the user asks for; None for whichever is found."""
    path = rc.environment.python.interpreter_path
    return None if path in (None, "", "python") else path


def choose_interpreter(config: ScriptRunConfig, asked: _packages.Wanted, notes: List[str]) -> Tuple[str, Dict[str, str]]:
    """The interpreter that the run is based on, and the versions of frameworks that its environment has to have.

    Where it has what is asked for, it is the run's; what it lacks is built on top of it by the machine that runs it. An interpreter
    that the user manages has to have torch, if that is asked for. Sentences for the user are added to `notes`.
    """
    rc, specs = config.run_config, asked.all
    managed, named = rc.environment.python.user_managed_dependencies, named_interpreter(rc)
    if _packages.image_name(rc) is not None:  # the image's own Python runs the script
        return named if named and os.path.isabs(named) else interpreter.SYSTEM, {}
    needs_torch = config._needs_torch or any(packages.parse(s)[0] in _packages.FRAMEWORKS for s in specs)
    try:
        choice = interpreter.choose(named, needs_torch and managed, lambda found: not config._needs_torch and bool(specs) and not packages.missing(
            specs, interpreter.installed(found.path)))
        if choice.notice:
            notes.append(choice.notice)
        frameworks = {} if managed else framework_versions(config, asked, choice.found, notes)
    except interpreter.InterpreterError as error:
        raise UserErrorException(str(error), error) from None
    python = packages.python_of(s for s in asked.conda if not is_address(s))
    if python is not None and not managed and not packages.python_matches(python, choice.found.version):
        notes.append("the run asks for %s, and its interpreter %s is Python %s" % (python, choice.found.path, choice.found.dotted))
    return choice.found.path, frameworks


def framework_versions(config: ScriptRunConfig, asked: _packages.Wanted, found: interpreter.Found, notes: List[str]) -> Dict[str, str]:
    """'torch' and the version that the run wants of it. Another framework is one of pip's packages: one that is there is used, with a
    note when its version is not the one that is asked for."""
    version = config._framework_version
    if config._needs_torch:
        return {"torch": "" if version is None else str(version)}
    if version is None or config._framework is None:
        return {}
    have = interpreter.installed(found.path).get(config._framework)
    if have is not None and not packages.satisfies(have, [("=", str(version))]):
        notes.append("framework_version %s is asked for, and %s has %s %s, which the run uses" % (version, found.path, config._framework, have))
    elif have is None:
        asked.pip[:] = ["%s==%s.*" % (config._framework, version) if s == config._framework else s for s in asked.pip]
    return {}


def store_snapshot(directory: str, script: Optional[str]) -> str:
    """Store source_directory; its id. SnapshotException when it is over its limit or cannot be read."""
    with Progress("Uploading the snapshot", 0) as bar:
        with sdk_errors(SnapshotException, "While attempting to take snapshot of %s: " % directory):
            limits = client().status()["limits"]
            snapshot = client().snapshot(directory, snapshots_client._limit_bytes() or limits["snapshot_bytes"],
                                         limits["snapshot_files"], progress=lambda p: bar.at(p.sent_bytes, p.to_send_bytes))
    if script and any(os.path.exists(os.path.join(directory, name)) for name in IGNORE_FILES):
        with sdk_errors(SnapshotException):
            stored = {entry.path for entry in client().manifest(snapshot) if entry.kind != "d"}
        real = os.path.relpath(os.path.realpath(os.path.join(directory, script)), os.path.realpath(directory))
        if script not in stored and real not in stored:
            raise UserErrorException("entry_script '%s' is left out of the snapshot by %s in source_directory '%s'" % (
                script, " or ".join(n for n in IGNORE_FILES if os.path.exists(os.path.join(directory, n))), directory))
    return snapshot
