"""Sections: objects of plain attributes that are written to files, and read from them, under the SDK's names.

A file says ``processCountPerNode`` for the attribute ``process_count_per_node``, in any mixture of upper and lower case.
"""
import json
import os
import re
from typing import Any, Callable, Dict, Mapping

from azureml.core._service import warn_once
from azureml.exceptions import UserErrorException


def camel(name: str) -> str:
    """The name of an attribute in files."""
    return re.sub(r"_([a-z])", lambda m: m.group(1).upper(), name)


def text_of(value: Any, what: str) -> Any:
    """A text, or None; numbers that a file has without quotes become texts."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise UserErrorException("%s is %r; a text is needed" % (what, value))
    return str(value)


def flag_of(value: Any, what: str) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise UserErrorException("%s is %r; true or false is needed" % (what, value))
    return value


def count_of(value: Any, what: str) -> int:
    """A whole number from 0 on."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise UserErrorException("%s is %r; a whole number is needed" % (what, value))
    return value


def list_of(value: Any, what: str) -> Any:
    """A list."""
    if not isinstance(value, list):
        raise UserErrorException("%s is %r; a list is needed" % (what, value))
    return list(value)


def texts_of(value: Any, what: str) -> Any:
    """A list of texts."""
    return [text_of(v, "an entry of %s" % what) for v in list_of(value, what)]


def map_of(value: Any, what: str) -> Dict[str, Any]:
    """A mapping."""
    if not isinstance(value, dict):
        raise UserErrorException("%s is %r; a mapping is needed" % (what, value))
    return dict(value)


Kind = Callable[[Any, str], Any]


class Section:
    """An object whose attributes in `_saved` (name -> what reads its value) go to files. A value that is a Section is one there too.

    `_elsewhere`: lower-case names that files of the SDK may have and that mean nothing here.
    """

    _saved: Mapping[str, Kind] = {}
    _elsewhere: frozenset = frozenset()  # type: ignore[type-arg]

    def _as_dict(self) -> Dict[str, Any]:
        """The attributes under the names that files use."""
        return {camel(name): _plain(getattr(self, name)) for name in self._saved}

    def _take(self, values: Any, what: str) -> None:
        """Set the attributes that `values` names; null leaves one as it is. UserErrorException names the place."""
        mine = {camel(name).lower(): name for name in self._saved}
        for key, value in map_of(values, what).items():
            name = mine.get(str(key).lower())
            if name is None:
                if str(key).lower() not in self._elsewhere:
                    warn_once("key:" + what + str(key), "%s: '%s' means nothing here, and is left out" % (what, key), stacklevel=5)
            elif value is not None:
                self._set(name, value, "%s: %s" % (what, key))

    def _set(self, name: str, value: Any, what: str) -> None:
        present = getattr(self, name)
        if isinstance(present, Section):
            present._take(value, what)
        else:
            setattr(self, name, self._saved[name](value, what))

    def __repr__(self) -> str:
        return "%s(%s)" % (type(self).__name__, ", ".join("%s=%r" % item for item in vars(self).items() if item[0] in self._saved))


def _plain(value: Any) -> Any:
    if isinstance(value, Section):
        return value._as_dict()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    return value if value is None or isinstance(value, (bool, int, float)) else str(value)


def read_text(path: str, what: str) -> str:
    """What a file holds; `what` names it for UserErrorException."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError as error:
        raise UserErrorException("%s '%s' cannot be read: %s" % (what, path, error.strerror), error) from None
    except UnicodeDecodeError as error:
        raise UserErrorException("%s '%s' cannot be read: it is not UTF-8 text" % (what, path), error) from None


def write_text(path: str, text: str, what: str) -> None:
    """Write a file, and its folder when it is missing; `what` names it for UserErrorException."""
    try:
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise UserErrorException("%s '%s' cannot be written: %s" % (what, path, error.strerror), error) from None


def read_json(path: str, what: str) -> Any:
    """The value in a JSON file; `what` names it for UserErrorException."""
    try:
        return json.loads(read_text(path, what))
    except ValueError as error:
        raise UserErrorException("%s '%s' is not valid JSON: %s" % (what, path, error), error) from None
