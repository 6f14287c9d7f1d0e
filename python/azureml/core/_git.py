"""Which commit of a git repository a run was submitted from, as properties of the run."""
import os
import re
import subprocess
from typing import Dict, List, Optional

GIT_SECONDS = 10.0  # that one question may take, in a large repository
_PASSWORD = re.compile(r"(\w+://)[^/@]*@")


def properties(directory: str) -> Dict[str, str]:
    """``azureml.git.commit``, ``branch``, ``dirty`` ('True' or 'False') and ``repository_uri`` (of the remote 'origin'), and the same
    but dirty under ``mlflow.source.git.``; {} for a folder in no repository, and where git gives no answer.

    What is not known, such as the branch of a detached head, is left out; names and passwords are cut from the address.
    """
    if not _in_repository(os.path.realpath(directory)):
        return {}
    told = _ask(directory, ["status", "--porcelain=v2", "--branch"])
    if told is None:
        return {}
    lines = told.splitlines()
    head = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch.") and line.count(" ") >= 2)
    uri = _ask(directory, ["config", "--get", "remote.origin.url"])
    found = {"commit": head.get("branch.oid"), "branch": head.get("branch.head"), "repoURL": _PASSWORD.sub(r"\1", (uri or "").strip())}
    known = {key: value for key, value in found.items() if value and not value.startswith("(")}  # '(initial)', '(detached)'
    made = {"mlflow.source.git." + key: value for key, value in known.items()}
    made.update(("azureml.git." + {"repoURL": "repository_uri"}.get(key, key), value) for key, value in known.items())
    made["azureml.git.dirty"] = str(any(not line.startswith("#") for line in lines))
    return made


def _in_repository(directory: str) -> bool:
    while not os.path.exists(os.path.join(directory, ".git")):
        directory, below = os.path.dirname(directory), directory
        if directory == below:
            return False
    return True


def _ask(directory: str, words: List[str]) -> Optional[str]:
    """What git prints; None when it is not there, too slow, or does not know."""
    try:
        done = subprocess.run(["git", "-C", directory, "-c", "core.fsmonitor=false", *words], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=GIT_SECONDS, check=False,
                              env=dict(os.environ, GIT_OPTIONAL_LOCKS="0", LC_ALL="C"))
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace") if done.returncode == 0 else None
