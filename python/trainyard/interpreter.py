"""Which Python runs a job.

The rule: an interpreter that was named is used or refused, never replaced. Otherwise the submitting one if it has torch, or if the
job says which packages it needs, not torch, and it has them; else
/usr/bin/python3 if that has, with a notice; else an error that says how to get torch, or the submitting one for a job that
does not say that it needs torch.
"""
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional

SYSTEM = "/usr/bin/python3"
PROBE_SECONDS = 60
HOW_TO_GET_TORCH = ("install it with 'sudo apt install python3-torch' (for %s), or with 'python3 -m pip install torch' in the "
                    "environment that you submit from" % SYSTEM)

# They run in the interpreter in question and print one JSON object. Any CPython from 2.7 on gives at least its version.
_PROBE = r"""
import json, sys
out = {"version": list(sys.version_info[:3])}
try:
    import importlib.util
    spec = importlib.util.find_spec("torch")
    out["torch"] = bool(spec and spec.origin)
except ImportError:
    pass
sys.stdout.write(json.dumps(out))
"""
_INSTALLED = r"""
import importlib.metadata, json, re, sys
found = {}
for dist in importlib.metadata.distributions():
    name = dist.metadata["Name"]
    if name:
        found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), dist.version)
sys.stdout.write(json.dumps(found))
"""
OLDEST = [3, 9]  # the first Python that can import azureml and trainyard


class InterpreterError(Exception):
    """No interpreter fits; the text says which was asked for, why it does not do, and what to do."""


class Found(NamedTuple):
    """What an interpreter is: its path, [major, minor, micro], and whether torch can be imported."""

    path: str
    version: List[int]
    torch: bool

    @property
    def dotted(self) -> str:
        """The version as people write it."""
        return ".".join(str(n) for n in self.version)


class Choice(NamedTuple):
    """The interpreter of a job, and a sentence for the user when there is something to know about it."""

    found: Found
    notice: Optional[str]


@functools.lru_cache(maxsize=32)
def probe(path: str) -> Found:
    """Ask an interpreter what it is, in the environment that a job gets. Raises InterpreterError."""
    out = _ask(path, _PROBE)
    return Found(path, out["version"], bool(out.get("torch")))


def installed(path: str) -> Dict[str, str]:
    """The distributions that an interpreter has: normalised name -> version. Raises InterpreterError."""
    return _ask(path, _INSTALLED)


def _ask(path: str, program: str) -> Any:
    env = {"PATH": os.defpath, "LANG": "C.UTF-8", "HOME": os.path.expanduser("~")}
    try:
        done = subprocess.run([path, "-c", program], env=env, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=PROBE_SECONDS, check=False)
        return json.loads(done.stdout)
    except OSError as error:
        raise InterpreterError("the interpreter '%s' cannot be run: %s" % (path, error.strerror)) from None
    except subprocess.TimeoutExpired:
        raise InterpreterError("the interpreter '%s' did not answer within %d s" % (path, PROBE_SECONDS)) from None
    except ValueError:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:] or ["it printed nothing of use"]
        raise InterpreterError("'%s' is not a Python interpreter that works: %s" % (path, last[0])) from None


def resolve(name: str) -> str:
    """The absolute path of an interpreter that a user named, as typed otherwise. Raises InterpreterError."""
    expanded = os.path.expanduser(name)
    if os.sep in expanded:
        path: Optional[str] = os.path.abspath(expanded)
    else:
        path = shutil.which(expanded)
    if path is None:
        raise InterpreterError("the interpreter '%s' is not on PATH; give its absolute path" % name)
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise InterpreterError("the interpreter '%s' cannot be run: there is no executable file '%s'" % (name, path))
    return path


def choose(named: Optional[str] = None, needs_torch: bool = True, has_all: Optional[Callable[[Found], bool]] = None) -> Choice:
    """The interpreter of a job, by the rule above.

    named: what the user asked for by name. needs_torch: the job says that it needs torch. has_all: does one have the packages
    that the job says it needs? None or False when it says nothing. Raises InterpreterError.
    """
    if named is not None:
        found = probe(resolve(named))
        if needs_torch and not found.torch:
            probe.cache_clear()  # somebody may install it now
            raise InterpreterError("the interpreter '%s' (Python %s) has no torch; %s, or name another interpreter"
                                   % (named, found.dotted, HOW_TO_GET_TORCH))
        return Choice(found, _too_old(found))
    mine = probe(_submitting())
    if mine.torch or (not needs_torch and has_all is not None and has_all(mine)):
        return Choice(mine, _too_old(mine))
    system = _system(mine)
    if system is not None and system.torch:
        return Choice(system, "%s (Python %s) has no torch, so the run uses %s (Python %s), which has it"
                      % (mine.path, mine.dotted, system.path, system.dotted))
    probe.cache_clear()
    if not needs_torch:
        return Choice(mine, _too_old(mine))
    raise InterpreterError("no interpreter with torch was found: neither %s nor %s has it; %s" % (mine.path, SYSTEM, HOW_TO_GET_TORCH))


def _too_old(found: Found) -> Optional[str]:
    if found.version >= OLDEST:
        return None
    return "%s is Python %s; scripts can import azureml from Python 3.9 on" % (found.path, found.dotted)


def _submitting() -> str:
    return sys.executable if sys.executable and re.match(r"python|pypy", os.path.basename(sys.executable)) else SYSTEM


def _system(mine: Found) -> Optional[Found]:
    if mine.path == SYSTEM:
        return None
    try:
        return probe(SYSTEM)
    except InterpreterError:
        return None
