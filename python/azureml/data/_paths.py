"""What a dataset consists of: paths and patterns in datastores, and how a run is given them as one directory.

A place is where a file lies in that directory: its path below the folder that all paths of the dataset have in common.
"""
import os
import posixpath
import re
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Sequence, Tuple

from azureml.core._service import client, sdk_errors
from azureml.exceptions import UserErrorException
from trainyard import objects

if TYPE_CHECKING:
    from azureml.core.datastore import Datastore

PIECES_MAX = 500  # data references that one dataset may become
_MAGIC = re.compile(r"[*?[]")

Path = Tuple["Datastore", str]


class Piece(NamedTuple):
    """A file or folder of a datastore, and its place: '' is the dataset's directory itself."""

    datastore: "Datastore"
    path: str
    place: str
    is_file: bool


def tidy(path: str) -> str:
    """A pattern that means a whole folder is that folder."""
    while path in ("**", "**/*") or path.endswith(("/**", "/**/*")):
        path = posixpath.dirname(path[:-2] if path.endswith("/*") else path)
    return path


def literal(path: str) -> str:
    """The pattern that means the file of that name alone."""
    return _MAGIC.sub(lambda m: "[%s]" % m.group(), path)


def is_whole(paths: Sequence[Path]) -> bool:
    """Is it one file or folder, so that nothing has to be looked up?"""
    return len(paths) == 1 and not _MAGIC.search(paths[0][1])


def files(paths: Sequence[Path]) -> List[Piece]:
    """The files of a dataset, each once, in the order of their places. UserErrorException for a path that has none."""
    roots = _roots(paths)
    found: Dict[str, Piece] = {}
    for datastore, pattern in paths:
        mine = [path for path in _listed(datastore, _fixed(pattern)) if matches(pattern, path)]
        if not mine:
            raise UserErrorException("the dataset's path '%s' names no file of datastore '%s'" % (pattern, datastore.name))
        for path in mine:
            place = posixpath.relpath(path, roots[datastore.name]) if roots[datastore.name] else path
            there = found.setdefault(place, Piece(datastore, path, place, True))
            if (there.datastore.name, there.path) != (datastore.name, path):
                raise UserErrorException("the dataset has two files that would be '%s' in one directory: '%s' of datastore '%s', and '%s' of "
                                         "'%s'; make two datasets of them" % (place, there.path, there.datastore.name, path, datastore.name))
    return [found[place] for place in sorted(found)]


def pieces(paths: Sequence[Path], what: str) -> List[Piece]:
    """As few files and folders as the dataset can be put together from: a folder whose files all belong to it is one."""
    if is_whole(paths):
        return [Piece(paths[0][0], paths[0][1], "", False)]
    made: List[Piece] = []
    roots = _roots(paths)
    by_store: Dict[str, List[Piece]] = {}
    for piece in files(paths):
        by_store.setdefault(piece.datastore.name, []).append(piece)
    for name, mine in by_store.items():
        root = roots[name]
        others = set(_listed(mine[0].datastore, root + "/" if root else "")) - {p.path for p in mine}
        made += _folded(mine, root, {folder for path in others for folder in _above(path)})
    if len(made) > PIECES_MAX:
        raise UserErrorException("%s: its paths and patterns come to %d separate files and folders, and a run may be given %d; name the "
                                 "folders that hold them instead" % (what, len(made), PIECES_MAX))
    return made


def _folded(mine: List[Piece], root: str, mixed: "set[str]") -> List[Piece]:
    """mixed: folders in or below which there is a file that does not belong to the dataset."""
    made: Dict[str, Piece] = {}
    for piece in mine:
        top = piece
        for folder in _above(piece.path):  # from the inside out
            if folder in mixed or folder == root or not (folder + "/").startswith(root + "/" if root else ""):
                break
            top = Piece(piece.datastore, folder, posixpath.relpath(folder, root) if root else folder, False)
        made[top.place] = top
    if root and root not in mixed and "" not in made:
        return [Piece(mine[0].datastore, root, "", False)] if all(p.path.startswith(root + "/") for p in mine) else list(made.values())
    return list(made.values())


def _above(path: str) -> List[str]:
    folders = []
    while "/" in path:
        path = posixpath.dirname(path)
        folders.append(path)
    return folders + [""]


def _fixed(pattern: str) -> str:
    """The folders of a pattern before the first '*', or the whole of a path."""
    match = _MAGIC.search(pattern)
    return pattern if match is None else pattern[:match.start()].rpartition("/")[0]


def _roots(paths: Sequence[Path]) -> Dict[str, str]:
    """By datastore: the folder that its paths have in common."""
    found: Dict[str, List[str]] = {}
    for datastore, pattern in paths:
        fixed = _fixed(pattern)
        found.setdefault(datastore.name, []).append(fixed if _MAGIC.search(pattern) or not _is_file(datastore, fixed) else
                                                    posixpath.dirname(fixed))
    return {name: os.path.commonpath(folders) if all(folders) else "" for name, folders in found.items()}


def _is_file(datastore: "Datastore", path: str) -> bool:
    return bool(path) and path in _listed(datastore, path)


def matches(pattern: str, path: str) -> bool:
    """Is `path` meant by a path (itself, or what lies below it) or by a pattern?"""
    if not _MAGIC.search(pattern):
        return not pattern or path == pattern or path.startswith(pattern + "/")
    return re.match(_expression(pattern), path, re.S) is not None


def _expression(pattern: str) -> str:
    out = ""
    for part in re.findall(r"\*\*/|\*\*|\*|\?|\[[^]]+\]|.", pattern, re.S):
        if part == "**/":
            out += "(?:.*/)?"
        elif part == "**":
            out += ".*"
        elif part in ("*", "?"):
            out += "[^/]" + ("*" if part == "*" else "")
        elif len(part) > 1:
            out += "[%s%s]" % ("^" if part[1] in "!^" else "", re.sub(r"([\\^[])", r"\\\1", part[2:-1] if part[1] in "!^" else part[1:-1]))
        else:
            out += re.escape(part)
    return out + r"\Z"


def _listed(datastore: "Datastore", prefix: str) -> List[str]:
    """The files of a datastore whose path begins with `prefix`."""
    with sdk_errors():
        if datastore._root:
            return [f["path"] for f in client().data(datastore.name, prefix.rstrip("/") or None)
                    if not prefix.endswith("/") or f["path"].startswith(prefix)]
        return [f["path"] for f in objects.ls(client().access(datastore.name), prefix)]
