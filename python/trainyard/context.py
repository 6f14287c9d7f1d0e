"""The live run inside a job: what a script logs.

A row is written to a file that the script shares with its runner (docs/spec/rows.md): a memory copy, no waiting, no daemon
needed. Nothing that happens to the service is raised here; a row that cannot be kept is counted, and the first one warns.
What the script itself does wrong (a value that cannot be logged) raises TypeError or ValueError.
"""
import json
import math
import os
import threading
import time
import warnings
from typing import Any, Dict, Iterable, List, Mapping, Optional

from trainyard import _core

POLL_SECONDS = 0.01
INT64_MAX = 2 ** 63 - 1
FAILED_CHARS = 1000  # of what run.fail() says
LIST_BYTES = _core.ROW_VALUE_MAX - 16  # of JSON in one row; a longer list becomes several rows of one series


def current() -> Optional["LiveRun"]:
    """The run that this process is part of, or None outside of a job. Always the same object."""
    global _current
    if _current is None:
        run, spool = os.environ.get("TRAINYARD_RUN_ID"), os.environ.get("TRAINYARD_SPOOL_DIR")
        if run and spool:
            _current = LiveRun(run, _core.Rows(spool))
    return _current


def scalar(value: Any, what: str) -> Any:
    """`value` as float, int, str or None-free plain value. Takes what has ``item()`` (numpy, torch) or ``__float__``.

    Raises TypeError, naming `what`, for anything else, also for arrays of several values.
    """
    if isinstance(value, (float, str)):
        return value
    if isinstance(value, int):
        return value if -INT64_MAX - 1 <= value <= INT64_MAX else _big(value)
    item = getattr(value, "item", None)
    if callable(item):
        try:
            plain = item()
        except (ValueError, TypeError, RuntimeError):
            raise TypeError("%s is an array of several values; log_list takes those" % what) from None
        if isinstance(plain, (float, str, int)):
            return scalar(plain, what)
        value = plain
    if hasattr(type(value), "__float__"):
        return float(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    raise TypeError("%s is of type %s; a number or a text is needed" % (what, type(value).__name__))


def _big(value: int) -> Any:
    try:
        return float(value)
    except OverflowError:
        return str(value)


def plain(value: Any, what: str) -> Any:
    """`value` for JSON: a scalar, None, or (nested) lists and dictionaries of them; not-a-number as {"$float": ...}."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        return {str(k): plain(v, what) for k, v in value.items()}
    if not isinstance(value, (str, bytes)):
        if hasattr(value, "tolist") and getattr(value, "ndim", 0):
            value = value.tolist()
        if isinstance(value, Iterable) and getattr(value, "ndim", 1):
            return [plain(v, what) for v in value]
    one = scalar(value, what)
    if isinstance(one, float):
        if not math.isfinite(one):
            return {"$float": "NaN" if math.isnan(one) else "Infinity" if one > 0 else "-Infinity"}
        return float(one)
    return int(one) if isinstance(one, int) else str(one)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8", "replace")


class LiveRun:
    """How a process logs to a run. Thread-safe; the child of a fork logs to a series of its own in the same run.

    rows: where the rows go: a spool file (``_core.Rows``) in the run's own job, ``remote.HttpRows`` elsewhere.
    """

    def __init__(self, run_id: str, rows: Any) -> None:
        self.id = run_id
        self.rows = rows
        self.dropped = 0
        self._lock = threading.Lock()

    def log(self, name: str, value: Any, step: Optional[int] = None) -> None:
        """Log one number or text under `name`; repeated calls make a list."""
        try:
            code = self.rows.scalar(name, value, step)
        except TypeError:
            if isinstance(name, str):
                raise
            raise TypeError("the name of what is logged is of type %s; a text is needed" % type(name).__name__) from None
        if code:
            self._failed(code, name, value)
        elif code is None:
            self._convert(name, value, step)

    def log_list(self, name: str, value: Iterable[Any]) -> None:
        """Log a list; `value` may be a generator or an array. Of arrays with several dimensions, rows become lists."""
        items = plain(list(value) if not hasattr(value, "tolist") else value, "the list '%s'" % name)
        for part in _parts(items if isinstance(items, list) else [items]):
            self._write(_core.LIST, name, part)

    def log_row(self, name: str, columns: Mapping[str, Any]) -> None:
        """Append one row: column -> value."""
        self._write(_core.ROW, name, _json(plain(columns, "the row '%s'" % name)))

    def log_table(self, name: str, columns: Mapping[str, Any]) -> None:
        """Log a table: column -> list or single value."""
        if not isinstance(columns, Mapping):
            raise TypeError("the table '%s' is of type %s; a dictionary of column -> list is needed" % (name, type(columns).__name__))
        whole = {str(k): list(v) if _is_stream(v) else v for k, v in columns.items()}
        for part in _table_parts(plain(whole, "the table '%s'" % name)):
            self._write(_core.TABLE, name, part)

    def tag(self, key: str, value: Optional[str]) -> None:
        """Set a tag; it reaches the service with the rows, in order."""
        self._write(_core.TAG, key, _json(value))

    def add_property(self, key: str, value: str) -> None:
        """Set a property. The service keeps the first value of a key."""
        self._write(_core.PROPERTY, key, _json(value))

    def declare_failed(self, text: str) -> None:
        """The run is to be Failed, whatever the exit code of its script; only in its own job, when the script ends. The first word counts."""
        place = os.path.join(os.environ["TRAINYARD_SPOOL_DIR"], "failed")
        try:
            with open(place, "x", encoding="utf-8", errors="replace") as file:
                file.write(" ".join(text.split())[:FAILED_CHARS] + "\n")
        except FileExistsError:
            pass

    def flush(self, timeout: float) -> bool:
        """Wait, at most `timeout` seconds, until the service has stored what this process logged; whether it has."""
        until = time.monotonic() + timeout
        want = self.rows.written()
        while self.rows.acked() < want:
            if time.monotonic() >= until or getattr(self.rows, "error", None) is not None:
                return False
            time.sleep(POLL_SECONDS)
        return True

    def _convert(self, name: str, value: Any, step: Optional[int]) -> None:
        one = scalar(value, "the value of '%s'" % name)
        if isinstance(one, str):
            code = self.rows.write(_core.TEXT, name, one.encode("utf-8", "replace"), step)
        else:
            code = self.rows.scalar(name, float(one) if isinstance(one, float) else int(one), step)
        if code:
            self._failed(code, name, one)

    def _write(self, kind: int, name: str, value: bytes) -> None:
        code = self.rows.write(kind, name, value)
        if code:
            self._failed(code, name, value)

    def _failed(self, code: int, name: str, value: Any) -> None:
        size = len(name.encode("utf-8", "replace"))
        if size == 0:
            raise ValueError("the name of what is logged is empty; give it one")
        if size > _core.ROW_NAME_MAX:
            raise ValueError("the name '%.40s...' has %d bytes; names have at most %d" % (name, size, _core.ROW_NAME_MAX))
        size = len(value.encode("utf-8", "replace") if isinstance(value, str) else value if isinstance(value, bytes) else b"")
        if size > _core.ROW_VALUE_MAX:
            raise ValueError("the value of '%s' has %d bytes; one value has at most %d. Write it to a file in outputs/, which is "
                             "kept" % (name, size, _core.ROW_VALUE_MAX))
        with self._lock:
            self.dropped += 1
            first = self.dropped == 1
        if first:
            warnings.warn("the value of '%s' could not be kept: %s; training goes on, and further values may be lost"
                          % (name, os.strerror(code)), RuntimeWarning, stacklevel=4)


def _is_stream(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes, Mapping)) and not hasattr(value, "tolist")


def _parts(items: List[Any]) -> Iterable[bytes]:
    """The list as JSON arrays that fit into rows."""
    whole = _json(items)
    if len(whole) <= LIST_BYTES or len(items) < 2:
        return [whole]
    middle = len(items) // 2
    return [*_parts(items[:middle]), *_parts(items[middle:])]


def _table_parts(columns: Dict[str, Any]) -> Iterable[bytes]:
    """The table as JSON objects that fit into rows; each holds some of the lines of every column."""
    whole = _json(columns)
    lines = max((len(v) for v in columns.values() if isinstance(v, list)), default=0)
    if len(whole) <= LIST_BYTES or lines < 2:
        return [whole]
    middle = lines // 2
    first = {k: v[:middle] if isinstance(v, list) else v for k, v in columns.items()}
    rest = {k: v[middle:] for k, v in columns.items() if isinstance(v, list)}
    return [*_table_parts(first), *_table_parts(rest)]


_current: Optional[LiveRun] = None
