"""Which names of the SDK the tests use, and docs/compat.md, which says so.

A name counts as supported when a test of this run calls it (or reads it, for a property) from outside of the packages, or when a script
that a test submits does; names that come with a later release must say so on first use. The names, how many of the 133 sample
notebooks use each, and the arguments seen there, are in azureml_names.txt.
"""
import ast
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
           "data.dataset_type_definitions data.azure_storage_datastore data.dataset_consumption_config monitoring pipeline.core "
           "pipeline.steps contrib.tensorboard exceptions").split()
ALSO = {"DatasetConsumption": "DatasetConsumptionConfig", "Estimator(PyTorch)": "PyTorch", "dataset_type_definitions": None}


class Recorder:
    """Notes each call from outside into azureml.*, with the parameters that were not left at their defaults."""

    def __init__(self, packages):
        self.calls = {}     # "Class.name" or "name" -> {"parameters": set, "tests": set}
        self.test = ""
        self._inside = tuple(os.path.join(packages, name) + os.sep for name in ("azureml", "trainyard"))
        self._azureml = self._inside[0]
        self._defaults = {}

    def start(self):
        sys.setprofile(self._on_event)
        threading.setprofile(self._on_event)

    def stop(self):
        sys.setprofile(None)
        threading.setprofile(None)

    def _on_event(self, frame, event, _):
        if event != "call" or not frame.f_code.co_filename.startswith(self._azureml):
            return
        caller = frame.f_back
        if caller is None or caller.f_code.co_filename.startswith(self._inside):
            return
        name = frame.f_code.co_name
        if not name.startswith("_") or name in ("__init__", "__new__", "_workspace_id"):
            self._note(frame, name)

    def _note(self, frame, name):
        code, values = frame.f_code, frame.f_locals
        names = code.co_varnames[:code.co_argcount + code.co_kwonlyargcount]
        first = values.get(names[0]) if names and names[0] in ("self", "cls") else None
        owner = first if isinstance(first, type) else type(first) if first is not None else None
        given = self._given(code, owner, name, names, values)
        static = getattr(code, "co_qualname", name)
        for full in self._full_names(owner, name) if owner or "<locals>" in static else [static]:
            entry = self.calls.setdefault(full, {"parameters": set(), "tests": set()})
            entry["parameters"].update(given)
            entry["tests"].add(self.test)

    @staticmethod
    def _full_names(owner, name):
        if owner is None:
            return [name]
        if name in ("__init__", "__new__"):
            return [owner.__name__]
        return ["%s.%s" % (c.__name__, name) for c in owner.__mro__ if c.__module__.startswith("azureml")]

    def _given(self, code, owner, name, names, values):
        if code not in self._defaults:
            try:
                function = inspect.unwrap(getattr(owner, name)) if owner else None
                signature = inspect.signature(function) if function else None
                self._defaults[code] = {p.name: p.default for p in signature.parameters.values()} if signature else {}
            except (AttributeError, TypeError, ValueError):
                self._defaults[code] = {}
        defaults = self._defaults[code]
        return {n for n in names if n not in ("self", "cls") and n in values and
                values[n] is not defaults.get(n, inspect.Parameter.empty) and values[n] is not None}


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
    """{file: text} of the scripts that tests submit: string literals that are programs; and the examples."""
    found = {}
    for path in sorted(glob.glob(os.path.join(HERE, "test_*.py"))):
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
        texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)
                 and "azureml" in node.value and "\n" in node.value]
        found[os.path.basename(path)] = "\n".join(texts)
    for path in sorted(glob.glob(os.path.join(EXAMPLES, "**", "*.py"), recursive=True)):
        with open(path, encoding="utf-8") as file:
            found["examples/" + os.path.relpath(path, EXAMPLES).replace(os.sep, "/")] = file.read()
    return found


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
    if name.startswith("Run.") and parts[0] in LATER or name in ("Gloo()", "Nccl()"):   # what an estimator refuses by name
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


def judge(name, calls, script_texts, texts):
    bare = name.rstrip("()").replace("Estimator(PyTorch)", "PyTorch")
    bare = {"DatasetConsumption.as_mount": "DatasetConsumptionConfig.as_mount"}.get(bare, bare)
    entry = calls.get(bare)
    if entry:
        good = sorted(t for t in entry["tests"] if "refuse" not in t)
        return Found("supported", good[0], entry["parameters"]) if good else Found("later", sorted(entry["tests"])[0])
    if is_later(name):
        return Found("later", "test_later.py")
    last = bare.split(".")[-1]
    owner = bare.split(".")[0]
    pattern = re.compile(r"\.%s\b" % re.escape(last) + (r"\(" if name.endswith("()") else ""))
    for file, text in script_texts.items():
        if owner in ("Run", "Workspace", "Experiment") and "." in bare and pattern.search(text):
            return Found("supported", "a script in " + file)
    if not name.endswith("()"):
        chain = re.compile(r"\.%s\b" % r"\.".join(map(re.escape, bare.split(".")[-2:] if bare.count(".") > 1 else [last])))
        one = re.compile(r"\b%s\b" % re.escape(last)) if "." not in bare or bare.startswith("azureml.") else chain
        for file, text in texts.items():
            if file != "test_later.py" and one.search(text) and (find(owner) is not None or bare.startswith("azureml.")):
                return Found("supported", file)
    return Found("no")


def document(calls):
    """The text of docs/compat.md."""
    script_texts, texts = scripts(), tests_text()
    out = ["# Which names of the SDK work", "",
           "Made by the tests: `COMPAT_WRITE=1 python3 -m pytest tests/python` writes this page, and a run of all tests fails when it is not what they give.",
           "A name is **supported** when a test uses it the way scripts do; *later* names import, and say on first use what to do instead. The number is how many of 133 sample",
           "notebooks use the name. Parameters are those that a test gives; the notebooks' others are in brackets.", ""]
    totals = {"supported": 0, "later": 0, "no": 0}
    uses = dict(totals)
    for area, names in read_names():
        out += ["## " + area, "", "| name | notebooks | | parameters | test |", "|---|---|---|---|---|"]
        for count, name, arguments in names:
            found = judge(name, calls, script_texts, texts)
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
    rows.update({"runDefinition.environment.docker.enabled": False, "runDefinition.docker.useDocker": False,
                 "runDefinition.docker.sharedVolumes": True, "runDefinition.docker.arguments": [], "inputDatasets": [], "outputDatasets": [],
                 "error.error.details": [], "warnings[].source": _definition.FINAL_WARNING_SOURCE})
    rows.update({"properties." + key: value for key, value in _definition.PROCESS_FILES.items()})
    return ["## Constants of `get_details()`", "",
            "Everything else in it comes from the run. These keys are there because scripts read them, and have always this value:", "",
            "| key | value |", "|---|---|"] + ["| `%s` | `%s` |" % (key, value) for key, value in sorted(rows.items())] + [""]
