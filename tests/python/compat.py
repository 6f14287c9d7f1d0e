"""Which names of the SDK the tests use, and docs/compat.md, which says so.

A name counts as supported when a test of this run calls it from outside of the packages and it returns, or reads or sets it, for an
attribute; or when a script that a test submits does. What only raises in the tests comes with a later release, as does what says so on
first use. The names, how many of the 133 sample
notebooks use each, and the arguments seen there, are in azureml_names.txt.
"""
import ast
import dis
import glob
import importlib
import inspect
import os
import re
import sys
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
DOCUMENT = os.path.join(HERE, "..", "..", "docs", "compat.md")
NAMES = os.path.join(HERE, "azureml_names.txt")
EXAMPLES = os.path.join(HERE, "..", "..", "examples")
MODULES = ("core core.compute core.runconfig core.environment core.conda_dependencies core.container_registry core.resource_configuration "
           "core.authentication core.keyvault core.model core.webservice core.image core.dataset train.dnn train.estimator train.sklearn "
           "train.hyperdrive widgets telemetry tensorboard tensorboard.export data data.datapath data.data_reference "
           "data.dataset_type_definitions data.file_dataset data.azure_storage_datastore data.dataset_consumption_config monitoring pipeline.core "
           "pipeline.steps contrib.tensorboard exceptions").split()
ALSO = {"DatasetConsumption": "DatasetConsumptionConfig", "Estimator(PyTorch)": "PyTorch"}
ON_A_DATASET = {"Dataset.to_path": "FileDataset.to_path", "Dataset.as_named_input": "FileDataset.as_named_input"}
# They can be made, and every run that is given one refuses it by name.
PARAMETER_SERVERS = {"ParameterServer", "TensorflowConfiguration"}
KINDS = {"run": "Run", "child": "Run", "Run": "Run", "Workspace": "Workspace", "Experiment": "Experiment"}  # of names in scripts
LEADS_TO = {("Run", "experiment"): "Experiment", ("Run", "parent"): "Run", ("Experiment", "workspace"): "Workspace",
            ("Run", "get_context"): "Run", ("Run", "get_submitted_run"): "Run", ("Run", "child_run"): "Run"}


class Recorder:
    """Notes each call from outside into azureml.*, with the parameters that were not left at their defaults; and each attribute that
    is read or set there."""

    def __init__(self, packages):
        self.calls = {}     # "Class.name" or "name" -> {"parameters": set, "tests": set, "refused": set}
        self._going = {}    # frame -> (names, parameters)
        self.test = ""
        self._inside = (__file__, *(os.path.join(packages, name) + os.sep for name in ("azureml", "trainyard")))
        self._azureml = self._inside[1]
        self._defaults = {}

    def start(self):
        for kind in own_classes():
            self._watch_attributes(kind)
        sys.setprofile(self._on_event)
        threading.setprofile(self._on_event)

    def stop(self):
        sys.setprofile(None)
        threading.setprofile(None)

    def _watch_attributes(self, kind):
        read, write = kind.__getattribute__, kind.__setattr__

        def reading(this, name):
            value = read(this, name)
            self._on_attribute(this, name)
            return value

        def writing(this, name, value):
            write(this, name, value)
            self._on_attribute(this, name)

        kind.__getattribute__, kind.__setattr__ = reading, writing

    def _on_attribute(self, this, name):
        if (not name.startswith("_") or name == "_workspace_id") and not sys._getframe(2).f_code.co_filename.startswith(self._inside):
            if not inspect.isroutine(inspect.getattr_static(type(this), name, None)):
                self._record(self._full_names(type(this), name), (), True)

    def _on_event(self, frame, event, value):
        if event == "return" and frame in self._going:
            names, given = self._going.pop(frame)
            self._record(names, given, value is not None or returned(frame))
        if event != "call" or not frame.f_code.co_filename.startswith(self._azureml):
            return
        caller = frame.f_back
        if caller is None or caller.f_code.co_filename.startswith(self._inside):
            return
        name = frame.f_code.co_name
        if not name.startswith("_") or name == "__init__":
            self._note(frame, name)

    def _note(self, frame, name):
        code, values = frame.f_code, frame.f_locals
        names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
        first = values.get(names[0]) if names and names[0] in ("self", "cls") else None
        owner = first if isinstance(first, type) else type(first) if first is not None else None
        given = self._given(code, owner, name, names, values)
        static = getattr(code, "co_qualname", name)
        self._going[frame] = self._full_names(owner, name) if owner or "<locals>" in static else [static], given

    def _record(self, names, given, good):
        for full in names if self.test else ():
            entry = self.calls.setdefault(full, {"parameters": set(), "tests": set(), "refused": set()})
            if good:
                entry["parameters"].update(given)
            entry["tests" if good else "refused"].add(self.test)

    @staticmethod
    def _full_names(owner, name):
        if owner is None:
            return [name]
        own = [c.__name__ for c in owner.__mro__ if c.__module__.startswith("azureml")]
        return own if name == "__init__" else ["%s.%s" % (kind, name) for kind in own]

    def _given(self, code, owner, name, names, values):
        if code not in self._defaults:
            try:
                function = inspect.unwrap(getattr(owner, name)) if owner else None
                signature = inspect.signature(function) if function else None
                self._defaults[code] = {p.name: p.default for p in signature.parameters.values()} if signature else {}
            except (AttributeError, TypeError, ValueError):
                self._defaults[code] = {}
        defaults = self._defaults[code]
        flags = code.co_flags
        rest = code.co_varnames[len(names) + bool(flags & inspect.CO_VARARGS)] if flags & inspect.CO_VARKEYWORDS else ""
        return {n for n in values.get(rest, ()) if not n.startswith("_")} | {n for n in names if n not in ("self", "cls") and n in values and
                values[n] is not defaults.get(n, inspect.Parameter.empty) and values[n] is not None}


def own_classes():
    """The classes of azureml that have no base there: what they note, those below them note."""
    for module in MODULES:
        importlib.import_module("azureml." + module)
    found = {kind for name, module in sys.modules.items() if name.startswith("azureml.") for kind in vars(module).values()
             if type(kind) is type and kind.__module__.startswith("azureml.") and not issubclass(kind, (BaseException, dict))}
    return [kind for kind in found if not found & set(kind.__mro__[1:])]


def returned(frame):
    """Does the frame end by returning (or yielding), and not by an exception? By the opcodes of DEBIAN_PYTHON in conftest.py."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]] in ("RETURN_VALUE", "YIELD_VALUE")


def read_names():
    """[(area, [(notebooks, name, arguments)])]"""
    areas = []
    with open(NAMES, encoding="utf-8") as file:
        for line in file:
            if line.startswith("["):
                areas.append((line.strip()[1:-1], []))
            elif line.strip() and not line.startswith("#"):
                count, name, *arguments = line.split()
                areas[-1][1].append((int(count), name, arguments))
    return areas


def scripts():
    """{file: names} that the scripts of tests use, which are string literals that are programs; and those of the examples."""
    found = {}
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
                 and "run" in node.value and "\n" in node.value]
        found[os.path.basename(path)] = set().union(*map(names_in, texts))
    for path in sorted(glob.glob(os.path.join(EXAMPLES, "**", "*.py"), recursive=True)):
        with open(path, encoding="utf-8") as file:
            found["examples/" + os.path.relpath(path, EXAMPLES).replace(os.sep, "/")] = names_in(file.read())
    return found


def names_in(program):
    """'Run.log' and the like, as far as a program's variables have the names of KINDS; nothing for what is no program."""
    try:
        tree = ast.parse(program)
    except SyntaxError:
        return set()
    uses = ((kind_of(node.value), node.attr) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return {"%s.%s" % use for use in uses if use[0]}


def kind_of(node):
    """The class of an expression, or None."""
    if isinstance(node, ast.Name):
        return KINDS.get(node.id)
    if isinstance(node, ast.Call):
        return kind_of(node.func)
    return LEADS_TO.get((kind_of(node.value), node.attr)) if isinstance(node, ast.Attribute) else None


def tests_text():
    texts = {}
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        with open(path, encoding="utf-8") as file:
            texts[os.path.basename(path)] = file.read()
    return texts


def find(name):
    """The object that the first part of a name stands for, or None."""
    first = name.split(".")[0].rstrip("()")
    first = ALSO.get(first, first)
    if first == "dataset_type_definitions":
        return importlib.import_module("azureml.data." + first)
    for module in MODULES:
        try:
            found = getattr(importlib.import_module("azureml." + module), first, None) if first else None
        except ImportError:
            continue
        if found is not None:
            return found
    return None


def is_later(name):
    """Does it import, and refuse its first use by name?"""
    from azureml.exceptions import UserErrorException

    from azureml.core.run import LATER

    found, parts = find(name), name.rstrip("()").split(".")[1:]
    if name.startswith("Run.") and parts[0] in LATER or name.split(".")[0].rstrip("()") in PARAMETER_SERVERS:
        return True
    try:
        for part in parts:
            found = getattr(found, part)
        if type(found).__name__ == "_LaterName":
            return True
    except UserErrorException:
        return True
    except AttributeError:
        return False
    return False


class Found:
    """What is known of one name."""

    def __init__(self, state, where="", parameters=()):
        self.state, self.where, self.parameters = state, where, parameters


def recorded_as(name):
    """Under which name the recorder notes it: of a chain of attributes, the class of the last owner."""
    from azureml.core import Environment, RunConfiguration

    bare = name.rstrip("()").replace("Estimator(PyTorch)", "EstimatorBase").replace("DatasetConsumption.", "DatasetConsumptionConfig.")
    bare = bare.replace("Dataset.File.", "FileDatasetFactory.")
    bare = ON_A_DATASET.get(bare, bare)
    first, *middle = bare.split(".")
    last = middle.pop() if middle else first
    if middle and first in ("Environment", "RunConfiguration"):
        owner = {"Environment": Environment, "RunConfiguration": RunConfiguration}[first]()
        for part in middle:
            owner = getattr(owner, part)
        return "%s.%s" % (type(owner).__name__, last)
    return bare


def judge(name, calls, script_names, texts):
    bare = recorded_as(name)
    owner = name.split(".")[0].rstrip("()")
    entry, whole = (calls.get(key, {"tests": (), "refused": (), "parameters": ()}) for key in (bare, owner))
    if entry["tests"] and owner not in PARAMETER_SERVERS:
        return Found("supported", sorted(entry["tests"])[0], entry["parameters"])
    refused = entry["refused"] or (whole["refused"] if not whole["tests"] else ())  # nobody has one of a class that cannot be made
    if refused or is_later(name):
        return Found("later", sorted(refused)[0] if refused else "test_later.py")
    for file, names in script_names.items():
        if bare in names:
            return Found("supported", "a script in " + file)
    if not name.endswith("()"):  # an attribute of a class or of a module
        pattern = re.compile(r"\b%s\b" % re.escape(bare.rpartition("azureml.core.")[2]))
        for file, text in texts.items():
            if file != "test_later.py" and pattern.search(text) and (isinstance(find(owner), type) or bare.startswith("azureml.")):
                return Found("supported", file)
    return Found("no")


def document(calls):
    """The text of docs/compat.md."""
    script_names, texts = scripts(), tests_text()
    out = ["# Which names of the SDK work", "",
           "Made by the tests: `COMPAT_WRITE=1 python3 -m pytest tests/python` writes this page, and a run of all tests fails when it is not what they give.",
           "A name is **supported** when a test uses it the way scripts do, and it does not raise; *later* names import, and say on first use what to do instead. The number is how many of 133 sample",
           "notebooks use the name. Parameters are those that a test gives; the notebooks' others are in brackets.", ""]
    totals = {"supported": 0, "later": 0, "no": 0}
    uses = dict(totals)
    for area, names in read_names():
        out += ["## " + area, "", "| name | notebooks | | parameters | test |", "|---|---|---|---|---|"]
        for count, name, arguments in names:
            found = judge(name, calls, script_names, texts)
            totals[found.state] += 1
            uses[found.state] += count
            missing = [a for a in arguments if a not in found.parameters and found.state == "supported" and found.parameters]
            given = ", ".join(sorted(found.parameters)) + (" [%s]" % ", ".join(missing) if missing else "")
            word = {"supported": "**supported**", "later": "*later*", "no": "not there"}[found.state]
            out.append("| `%s` | %d | %s | %s | %s |" % (name, count, word, given, found.where))
        out.append("")
    out[5:5] = ["", "Of %d names %d are supported, %d come later, %d are not there; counted by use in notebooks: %d, %d and %d." % (
        sum(totals.values()), totals["supported"], totals["later"], totals["no"], uses["supported"], uses["later"], uses["no"])]
    out += constants()
    return "\n".join(out).rstrip() + "\n"


def constants():
    """What get_details() gives that no run decides."""
    from azureml.core import _definition

    rows = {"runDefinition." + key: value for key, value in _definition.CONSTANTS.items()}
    rows.update({"runDefinition.docker.sharedVolumes": True, "outputDatasets": [],
                 "error.error.details": [], "warnings[].source": _definition.FINAL_WARNING_SOURCE})
    rows.update({"properties." + key: value for key, value in _definition.PROCESS_FILES.items()})
    return ["## Constants of `get_details()`", "",
            "Everything else in it comes from the run. These keys are there because scripts read them, and have always this value:", "",
            "| key | value |", "|---|---|"] + ["| `%s` | `%s` |" % (key, value) for key, value in sorted(rows.items())] + [""]
