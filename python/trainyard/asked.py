"""What an interpreter has, and what of an environment it lacks. Run by the agent with the interpreter in question:

    python3 FOLDER/trainyard/asked.py FOLDER < question > answer

question: {"pip": [specification], "conda": [specification], "more": [name for system], "constraints": [specification], "besides": [name],
           "python": specification or null}
answer:   {"version", "platform", "executable": path, "path": what PATH is there, "prefix", "base_prefix", "sites": [folder], "pip": version or null, "venv": bool, "ensurepip": bool,
           "packages": {name: version}, "missing": [{"spec", "name", "why"}], "conda_missing": [..], "satisfied": [{"name", "version"}],
           "system": [{"name", "version"}], "torch_cuda": version for which its torch was built, "" for none or null, "python_matches": bool}
           system: what the specifications, those named besides, and what they need in turn, are given by folders outside of the interpreter's prefix or,
           where it is no venv, by its own
FOLDER is where Trainyard's own packages lie. What they provide (horovod) satisfies a specification whatever its version: a job finds
them before all others. They do not count as the interpreter's. As a program it uses the module beside
it and nothing compiled: the interpreter may be one that the extensions do not know.
"""
import importlib.metadata
import importlib.util
import json
import os
import re
import sys
import sysconfig
from typing import Any, Dict, List, Mapping, Optional

if __package__:
    from trainyard import packages
else:
    import packages  # type: ignore

_ADDRESS = re.compile(r"://|@|^[./]|/")
_EXTRAS = re.compile(r"^\s*[\w.-]+\s*\[([^]]*)\]")
_MARKER = re.compile(r";(.*)$", re.S)
_HASHES = re.compile(r"\s--hash\b.*$", re.S)  # of which file a package is to be; one that is there is not asked for its own, as by pip
_CUDA = re.compile(r"^cuda(?:\s*:[^=\n]*)?\s*=\s*(?:None|['\"]([\d.]*)['\"])", re.M)


def distributions(sites: List[str]) -> Dict[str, importlib.metadata.Distribution]:
    """What lies in `sites` by normalised name; the first one counts, as for an import."""
    found: Dict[str, importlib.metadata.Distribution] = {}
    for one in importlib.metadata.distributions(path=sites):
        name = one.metadata["Name"]
        if name and one.version:
            found.setdefault(packages.normal(name), one)
    return found


def holds(marker: str, extra: str = "") -> bool:
    """Does an environment marker hold here, for who wants `extra`? One that cannot be judged does."""
    for place in ("packaging.markers", "pip._vendor.packaging.markers"):
        try:
            return bool(importlib.import_module(place).Marker(marker).evaluate({"extra": extra}))
        except ImportError:
            continue
        except Exception:
            return True
    return True


def lacking(specs: List[str], found: Mapping[str, importlib.metadata.Distribution], constraints: List[str]) -> List[Dict[str, str]]:
    """Those of `specs` that are not satisfied, each with its name and why. What cannot be judged from its name counts as lacking."""
    have = {name: one.version for name, one in found.items()}
    lost = []
    for spec in specs:
        plain = _HASHES.sub("", spec)
        marker = _MARKER.search(plain)
        if marker and not holds(marker.group(1).strip()):
            continue
        plain = _MARKER.sub("", plain).strip()
        if _ADDRESS.search(plain.split("::", 1)[-1]):
            match = re.match(r"([\w.-]+)(?:\[[^]]*\])?\s*@", plain)
            lost.append({"spec": spec, "name": packages.normal(match.group(1)) if match else "", "why": "it is given by its address"})
            continue
        try:
            name = packages.parse(plain)[0]
            why = [one.why for one in packages.missing([plain], have)] or of_constraints(name, constraints, have) or of_extras(plain, name, found, have)
        except packages.SpecError as error:
            name, why = "", [str(error)]
        if why:
            lost.append({"spec": spec, "name": name, "why": why[0]})
    return lost


def of_constraints(name: str, constraints: List[str], have: Mapping[str, str]) -> List[str]:
    """Why what is there under that name is not what `constraints` allow."""
    why = []
    for line in constraints:
        try:
            if packages.parse(line)[0] == name and name in have:
                why += ["%s, and the constraint is '%s'" % (one.why, line) for one in packages.missing([line], have)]
        except packages.SpecError:
            why.append("the constraint '%s' cannot be judged here" % line)
    return why


def of_extras(spec: str, name: str, found: Mapping[str, importlib.metadata.Distribution], have: Mapping[str, str]) -> List[str]:
    """Why the extras that a specification names ("name[a,b]") are not there."""
    match = _EXTRAS.match(spec)
    why = []
    for extra in filter(None, (e.strip() for e in match.group(1).split(","))) if match and name in found else ():
        for line in found[name].requires or []:
            requirement, _, marker = line.partition(";")
            if "extra" not in marker or holds(marker.strip()) or not holds(marker.strip(), extra):
                continue
            try:
                why += ["its extra '%s' needs %s: %s" % (extra, requirement.strip(), one.why) for one in packages.missing([requirement], have)]
            except packages.SpecError:
                why.append("its extra '%s' needs %s" % (extra, requirement.strip()))
    return why


def needed(specs: List[str], found: Mapping[str, importlib.metadata.Distribution]) -> List[str]:
    """Names of the distributions in `found` that `specs` name, and all that those require."""
    seen: List[str] = []
    waiting = list(specs)
    while waiting:
        spec, _, marker = _HASHES.sub("", waiting.pop()).partition(";")
        match = re.match(r"\s*(?:[\w.-]+::)?([A-Za-z0-9][\w.-]*)", spec)
        name = packages.normal(match.group(1)) if match else ""
        name = packages.SAME.get(name, name)
        if name in found and name not in seen and (not marker or holds(marker.strip())):
            seen.append(name)
            waiting += found[name].requires or []
    return sorted(seen)


def torch_cuda(sites: List[str]) -> Optional[str]:
    """The CUDA version that the first torch of `sites` was built for, "" for none, None when that cannot be told. Nothing is imported."""
    for site in sites:
        try:
            with open(os.path.join(site, "torch", "version.py"), encoding="utf-8", errors="replace") as file:
                match = _CUDA.search(file.read())
        except OSError:
            continue
        return (match.group(1) or "") if match else None
    return None


def answer(question: Mapping[str, Any], ours: str) -> Dict[str, Any]:
    """See the module."""
    mine = {os.path.realpath(ours), os.path.dirname(os.path.realpath(__file__))}
    sites = [p for p in sys.path if p and os.path.isdir(p) and os.path.realpath(p) not in mine]
    found = distributions(sites)
    have = {name: one.version for name, one in found.items()}
    provided = {name: one.version for name, one in distributions([ours]).items()}
    pip, conda = list(question.get("pip") or []), list(question.get("conda") or [])
    constraints = list(question.get("constraints") or [])
    missing, conda_missing = ([m for m in lacking(specs, found, constraints) if m["name"] not in provided] for specs in (pip, conda))
    lost = {m["spec"] for m in missing + conda_missing}
    satisfied = []
    for spec in pip + conda:
        try:
            name = packages.parse(_MARKER.sub("", spec).strip())[0] if spec not in lost else ""
        except packages.SpecError:
            name = ""
        if name and name != "python" and (name in have or name not in packages.IGNORED):
            from_us = name in provided or name not in have
            satisfied.append({"name": name, "version": (provided if from_us else have).get(name, ""),
                              "from": "trainyard" if from_us else "interpreter"})
    of_ours = os.path.exists(os.path.join(sys.prefix, "conda-meta", "trainyard"))  # made by src/env/conda.c
    own = os.path.join(sys.prefix, "") if sys.prefix != sys.base_prefix or of_ours else None
    system = [{"name": name, "version": have[name]} for name in needed(pip + conda + list(question.get("more") or []), found)
              if not own or not str(found[name].locate_file("")).startswith(own)]
    python = question.get("python")
    spec = python if not python or re.match(r"[<>=!~]", python) else "=" + python
    return {"version": "%d.%d.%d" % sys.version_info[:3], "platform": sysconfig.get_platform(), "executable": sys.executable,
            "path": os.environ.get("PATH"), "prefix": sys.prefix,
            "base_prefix": sys.base_prefix, "sites": sites, "pip": have.get("pip"),
            "venv": importlib.util.find_spec("venv") is not None, "ensurepip": importlib.util.find_spec("ensurepip") is not None,
            "packages": have, "missing": missing, "conda_missing": conda_missing, "satisfied": satisfied, "system": system,
            "torch_cuda": torch_cuda(sites), "python_matches": not spec or packages.python_matches("python" + spec, sys.version_info[:3])}


def main(ours: str) -> None:
    """Answer on stdout what stdin asks."""
    json.dump(answer(json.load(sys.stdin), ours), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
