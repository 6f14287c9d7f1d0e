"""Moving files between this machine and an object store, by the data helper (docs/spec/data-helper.md).

The bytes never pass through the daemon, and the credentials go to the helper through its standard input alone.
"""
import json
import os
import shutil
import subprocess
import threading
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Type

from trainyard import _core, errors

PROGRAM = "trainyard-agent"
FOLDERS_UP = 6  # from this file to the prefix it was installed in
END_SECONDS = 10

Record = Dict[str, Any]
_ERRORS: Mapping[str, Type[errors.TrainyardError]] = {
    "not_found": errors.NotFound, "no_container": errors.NotFound, "conflict": errors.Conflict, "forbidden": errors.Refused,
    "bad_request": errors.Refused, "changed": errors.Refused, "clock": errors.Refused, "no_libcurl": errors.Refused,
    "unavailable": errors.Unavailable, "no_space": errors.NoSpace,
}


class Moved(NamedTuple):
    """What a transfer came to: `moved` were copied, `same` were there with the same content, `others` were there with another one."""

    moved: int
    same: int
    others: int


def agent() -> str:
    """The program trainyard-agent: beside $TRAINYARD_DAEMON, near this package, else on PATH. errors.NotFound."""
    daemon = os.environ.get("TRAINYARD_DAEMON")
    folders = [os.path.dirname(os.path.abspath(daemon))] if daemon else []
    folder = os.path.dirname(os.path.realpath(_core.__file__))
    for _ in range(FOLDERS_UP):
        folders += [folder, os.path.join(folder, "bin")]
        folder = os.path.dirname(folder)
    for folder in folders:
        place = os.path.join(folder, PROGRAM)
        if os.path.isfile(place) and os.access(place, os.X_OK):
            return place
    found = shutil.which(PROGRAM)
    if found is None:
        raise errors.NotFound("cannot find the program %s: it is neither near the Python packages of Trainyard nor on PATH" % PROGRAM)
    return found


def put(access: Record, files: Sequence[Mapping[str, str]], overwrite: bool = False,
        progress: Optional[Callable[[int, int], Any]] = None) -> Moved:
    """Copy local files ([{"local", "path"}]) to objects.

    access: ACCESS. overwrite: replace objects; otherwise those that are there stay as they are. progress: called with bytes that
    are done, and all bytes.
    """
    return _move({"access": access, "do": "put", "files": files, "overwrite": overwrite}, progress) if files else Moved(0, 0, 0)


def get(access: Record, path: str, local: str, overwrite: bool = False, progress: Optional[Callable[[int, int], Any]] = None) -> Moved:
    """Copy the object `path` to the file `local`; or, when there is none, all below ``path/`` to the folder `local`.

    overwrite: replace local files; otherwise those that are there stay as they are. errors.NotFound when there is neither.
    """
    return _move({"access": access, "do": "get", "path": path, "local": local, "overwrite": overwrite}, progress)


def get_files(access: Record, files: Sequence[Mapping[str, str]], overwrite: bool = False,
              progress: Optional[Callable[[int, int], Any]] = None) -> Moved:
    """The same for objects that are named one by one ([{"path", "local"}])."""
    return _move({"access": access, "do": "get", "files": files, "overwrite": overwrite}, progress) if files else Moved(0, 0, 0)


def ls(access: Record, prefix: str = "") -> List[Record]:
    """Every object whose path begins with `prefix`: {"path", "bytes", "etag", "md5", "modified"}."""
    found: List[Record] = []
    for line in _ask({"access": access, "do": "ls", "path": prefix}):
        if "file" in line:
            found.append(line["file"])
        elif "error" in line:
            raise _error(line["error"])
    return found


def _move(request: Record, progress: Optional[Callable[[int, int], Any]]) -> Moved:
    counts = {"moved": 0, "there": 0, "conflict": 0}
    first: Optional[Record] = None
    for line in _ask(request):
        if "progress" in line and progress is not None:
            progress(line["progress"]["bytes"], line["progress"]["total"])
        elif "file" in line:
            state, error = line["file"]["state"], line["file"].get("error")
            if state == "failed" and error["code"] == "conflict" and not request["overwrite"]:
                state = "conflict"
            if state in counts:
                counts[state] += 1
            else:
                first = first or error
        elif "error" in line and (first is not None or line["error"]["code"] != "conflict" or not counts["conflict"]):
            raise _error(first or line["error"], line["error"].get("failed"))
    return Moved(counts["moved"], counts["there"], counts["conflict"])


def _error(error: Record, failed: Optional[int] = None) -> errors.TrainyardError:
    more = "; %d other files failed too" % (failed - 1) if failed is not None and failed > 1 and "other file" not in error["message"] else ""
    return _ERRORS.get(error["code"], errors.TrainyardError)(error["message"] + more)


def _ask(request: Record) -> Iterator[Record]:
    """The lines of the helper's answer. It ends with this process, and when nobody reads on."""
    text = json.dumps(dict(request, version=1)).encode() + b"\n"
    with subprocess.Popen([agent(), "data"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as helper:
        assert helper.stdin is not None and helper.stdout is not None
        feeder = threading.Thread(target=_feed, args=(helper.stdin, text), daemon=True)
        feeder.start()
        last = False
        try:
            for line in helper.stdout:
                answer = json.loads(line)
                last = "done" in answer or "error" in answer
                yield answer
        finally:
            if not last:
                helper.kill()
            feeder.join(END_SECONDS)
    if not last:
        raise errors.TrainyardError("the data helper (%s data) ended without an answer, with code %s" % (PROGRAM, helper.returncode))


def _feed(pipe: Any, text: bytes) -> None:
    try:
        pipe.write(text)
        pipe.close()
    except OSError:  # it ended, and has said why
        pass
