"""Are the packages that a job asks for there? What the interpreter has is used as it is; the rest is named.

Specifications: pip's (``torch>=1.0,<3``, ``numpy==1.*``, ``name[extra]``), conda's (``numpy=1.24``, ``python=3.11``,
``pytorch``, ``pytorch::torchvision``). What Trainyard itself provides (``azureml-*``, ``horovod``) counts as there.
"""
import itertools
import re
from typing import Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

# What a distribution is called elsewhere: conda's and older names -> the name under which pip knows it.
SAME: Mapping[str, str] = {
    "pytorch": "torch", "pytorch-nightly": "torch", "pytorch-cpu": "torch", "torch-nightly": "torch",
    "tensorflow-gpu": "tensorflow", "tensorflow-cpu": "tensorflow",
    "torchvision-cpu": "torchvision", "torchvision-nightly": "torchvision", "sklearn": "scikit-learn", "opencv": "opencv-python",
}
# No part of what a script imports: an installer, compilers' run-time libraries, conda's switches.
IGNORED = frozenset({"pip", "setuptools", "wheel", "cpuonly", "cudatoolkit", "mkl", "blas", "libgcc", "openmpi", "mpi"})
PROVIDED = re.compile(r"azureml(-|$)|azure-ml-api-sdk$|applicationinsights$|horovod$")
NOT_PROVIDED = frozenset({"azureml-automl-core", "azureml-train-automl", "azureml-mlflow", "azureml-opendatasets"})

_SPEC = re.compile(r"^(?:[\w.-]+::)?([A-Za-z0-9][\w.-]*)\s*(?:\[[\w\s,.-]*\])?\s*(.*)$", re.S)
_CLAUSE = re.compile(r"^(===|==|~=|!=|>=|<=|>|<|=)?\s*([0-9A-Za-z][\w.+!*=-]*)$")


class Missing(NamedTuple):
    """A specification that is not satisfied, and why, to follow its name in a sentence."""

    spec: str
    why: str


class SpecError(ValueError):
    """A text that is no package specification."""


def normal(name: str) -> str:
    """The name by which distributions are compared (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def parse(spec: str) -> Tuple[str, List[Tuple[str, str]]]:
    """(normalised name, [(operator, version)]) of a pip or conda specification. Raises SpecError."""
    text = re.split(r"\s#|\s*;|\s--hash\b", spec, maxsplit=1)[0].strip()
    match = _SPEC.match(text)
    if not match:
        raise SpecError("'%s' is not a package specification such as 'numpy>=1.20'" % spec)
    clauses: List[Tuple[str, str]] = []
    rest = match.group(2).strip().strip("()")
    for part in filter(None, (p.strip() for p in rest.split(","))):
        clause = _CLAUSE.match(part)
        if not clause:
            raise SpecError("'%s' is not a package specification such as 'numpy>=1.20': '%s' is no version" % (spec, part))
        operator, version = clause.group(1) or "=", clause.group(2)
        if operator == "=" and "=" in version:  # conda: name=version=build
            version = version.split("=", 1)[0]
        clauses.append((operator, version))
    name = normal(match.group(1))
    return SAME.get(name, name), clauses


def python_of(specs: Iterable[str]) -> Optional[str]:
    """The last specification of Python itself among conda packages, or None."""
    found = None
    for spec in specs:
        if parse(spec)[0] == "python":
            found = spec
    return found


def missing(specs: Sequence[str], packages: Mapping[str, str]) -> List[Missing]:
    """Those of `specs` that `packages` (normalised name -> version) does not satisfy. Raises SpecError.

    Specifications of Python itself are left out: python_matches() judges them.
    """
    found = []
    for spec in specs:
        name, clauses = parse(spec)
        if name == "python" or name in IGNORED:
            continue
        if PROVIDED.match(name) and name not in NOT_PROVIDED:
            continue
        version = packages.get(name)
        if version is None:
            found.append(Missing(spec, "it is not installed"))
        elif not satisfies(_as_released(name, version), clauses):
            found.append(Missing(spec, "version %s is installed" % version))
    return found


def _as_released(name: str, version: str) -> str:
    """torch that a distribution built from released sources calls itself an alpha (Debian: 1.13.0a0+gitunknown)."""
    return re.sub(r"a0(\+git\w*)?$", "", version) if name == "torch" else version


def python_matches(spec: str, version: Sequence[int]) -> bool:
    """Does Python `version` (major, minor, micro) have the major and minor version that `spec` asks for?"""
    dotted = ".".join(str(n) for n in version)
    for operator, wanted in parse(spec)[1]:
        numbers = wanted.split(".")
        if operator in ("=", "==", "===", "~="):
            if not all(w in ("*", str(have)) for w, have in zip(numbers[:2], version)):
                return False
        elif not satisfies(dotted, [(operator, wanted)]):
            return False
    return True


def satisfies(version: str, clauses: Iterable[Tuple[str, str]]) -> bool:
    """Does an installed `version` satisfy all clauses? '=' is conda's: the version, or one that begins with it."""
    return all(_holds(version, operator, wanted) for operator, wanted in clauses)


def _holds(version: str, operator: str, wanted: str) -> bool:
    if operator == "===":
        return version == wanted
    if operator in ("==", "!=", "=") and (operator == "=" or wanted.endswith("*")):
        prefix = _release(wanted.rstrip("*").rstrip("."))
        equal = _padded(_release(version), len(prefix))[:len(prefix)] == prefix
        return equal == (operator != "!=")
    have, want = _key(version, "+" in wanted), _key(wanted, "+" in wanted)
    if operator == "~=":
        release = _release(wanted)[:-1]
        return have >= want and _padded(_release(version), len(release))[:len(release)] == release
    if operator == "==":
        return have == want
    if operator == "!=":
        return have != want
    if operator == ">=":
        return have >= want
    if operator == "<=":
        return have <= want
    return have > want if operator == ">" else have < want


def _release(version: str) -> Tuple[int, ...]:
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    return tuple(int(n) for n in match.group(1).split(".")) if match else ()


def _padded(release: Tuple[int, ...], length: int) -> Tuple[int, ...]:
    return release + (0,) * max(0, length - len(release))


def _key(version: str, with_local: bool) -> Tuple[object, ...]:
    """Order of versions (PEP 440 as far as releases, pre-, post- and development releases go)."""
    public, _, local = version.lower().partition("+")
    release = _release(public)
    while len(release) > 1 and release[-1] == 0:
        release = release[:-1]
    rest = re.sub(r"^v?(?:\d+!)?\d+(?:\.\d+)*", "", public)
    pre = re.search(r"(a|b|c|rc|alpha|beta|pre)[._-]?(\d*)", rest)
    post = re.search(r"post[._-]?(\d*)", rest)
    dev = re.search(r"dev[._-]?(\d*)", rest)
    stage = (0, "", 0) if dev and not pre and not post else (1, pre.group(1)[0], int(pre.group(2) or 0)) if pre else (2, "", 0)
    after = int(post.group(1) or 0) + 1 if post else 0
    early = -1 if dev else 0
    words = tuple(itertools.chain(re.split(r"[._-]", local))) if with_local else ()
    return (release, stage, after, early, words)
