"""Logging to a run from outside of its job: over HTTP, in the background.

Rows are numbered by their writer, so a batch that is sent twice is stored once. What was logged in the last moments before
this process is killed with -9 is lost; ``flush`` waits until everything is stored, and so does the end of the interpreter.
"""
import atexit
import errno
import os
import random
import struct
import threading
import time
import warnings
from typing import Any, Dict, List, Optional, Tuple

from trainyard import _core, errors
from trainyard.client import Client
from trainyard.context import INT64_MAX, LiveRun

WRITER_MIN = 65536          # smaller numbers belong to the run's own processes
BATCH_BYTES = 1 << 20
PENDING_BYTES = 64 << 20    # beyond them values are dropped, and counted
DELAY_SECONDS = 0.05        # values that come meanwhile go in one request
RETRY_SECONDS = 1.0
EXIT_SECONDS = 30.0         # that the end of the interpreter waits for the service
NO_STEP = -INT64_MAX - 1
_HEAD = struct.Struct("<IBBHqqII")


def process() -> Dict[str, Any]:
    """Who this process is: ``process`` of docs/spec/run-spec.md."""
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b")")[2].split()
    boot = os.environ.get("TRAINYARD_TEST_BOOT_ID")
    if not boot:
        with open("/proc/sys/kernel/random/boot_id") as text:
            boot = text.read().strip()
    return {"pid": os.getpid(), "start": int(fields[19]), "boot": boot}


def logger(client: Client, run_id: str) -> LiveRun:
    """The one logger of this process for that run."""
    with _lock:
        if run_id not in _loggers:
            _loggers[run_id] = LiveRun(run_id, HttpRows(client, run_id))
        return _loggers[run_id]


def find(run_id: str) -> Optional[LiveRun]:
    """The logger of this process for that run, if it has logged to it."""
    return _loggers.get(run_id)


def forget(run_id: str) -> None:
    """The run has ended here: its logger, whose rows are stored, is given up."""
    with _lock:
        _loggers.pop(run_id, None)


class HttpRows:
    """Rows on their way to the service: what ``_core.Rows`` is for the spool file. Thread-safe."""

    def __init__(self, client: Client, run_id: str) -> None:
        self.error: Optional[Exception] = None
        self._client = client
        self._run = run_id
        self._writer = WRITER_MIN + random.SystemRandom().randrange(2 ** 32 - WRITER_MIN)
        self._changed = threading.Condition()
        self._waiting = bytearray()
        self._ends: List[int] = []  # of the rows in _waiting
        self._written = 0
        self._acked = 0
        self._thread: Optional[threading.Thread] = None

    def scalar(self, name: str, value: Any, step: Optional[int] = None) -> Optional[int]:
        """Add a float or int: 0, an errno, or None for what is neither."""
        if type(value) is float:
            return self._add(_core.DOUBLE, name, struct.pack("<d", value), step)
        if type(value) in (int, bool) and NO_STEP <= value <= INT64_MAX:
            return self._add(_core.INT, name, struct.pack("<q", value), step)
        return None

    def write(self, kind: int, name: str, value: bytes, step: Optional[int] = None) -> int:
        """Add a row of any kind of metric: 0 or an errno."""
        return self._add(kind, name, value, step)

    def written(self) -> int:
        """How many rows were added."""
        return self._written

    def acked(self) -> int:
        """How many the service has stored."""
        return self._acked

    def _add(self, kind: int, name: str, value: bytes, step: Optional[int]) -> int:
        if not isinstance(name, str):
            raise TypeError("the name is of type %s" % type(name).__name__)
        text = name.encode("utf-8", "replace")
        if not 0 < len(text) <= _core.ROW_NAME_MAX or len(value) > _core.ROW_VALUE_MAX:
            return errno.EINVAL
        size = (_HEAD.size + len(text) + len(value) + 7) // 8 * 8
        row = _HEAD.pack(size, kind, 0, len(text), NO_STEP if step is None else int(step), time.time_ns() // 1000, len(value), 0)
        with self._changed:
            if self.error is not None:
                return errno.EPIPE
            if len(self._waiting) + size > PENDING_BYTES:
                return errno.ENOSPC
            self._waiting += (row + text + value).ljust(size, b"\0")
            self._ends.append(len(self._waiting))
            self._written += 1
            if self._thread is None:
                self._thread = threading.Thread(target=self._send_all, name="trainyard-rows", daemon=True)
                self._thread.start()
            self._changed.notify_all()
        return 0

    def _batch(self) -> Tuple[bytes, int]:
        """The rows of the next request, and how many they are."""
        count = len(self._ends)
        while count > 1 and self._ends[count - 1] > BATCH_BYTES:
            count = max(1, count // 2)
        return bytes(self._waiting[:self._ends[count - 1]]), count

    def _send_all(self) -> None:
        while self.error is None:
            with self._changed:
                while not self._ends:
                    self._changed.wait()
            time.sleep(DELAY_SECONDS)
            with self._changed:
                rows, count = self._batch()
            try:
                self._client.add_rows(self._run, self._writer, self._acked, rows)
            except (errors.Unreachable, errors.Unavailable, errors.NoSpace):
                time.sleep(RETRY_SECONDS)
                continue
            except Exception as error:  # the service will not have them: each further value says so
                self.error = error
                warnings.warn("what was logged to run '%s' could not be stored: %s" % (self._run, error), RuntimeWarning)
                continue
            with self._changed:
                del self._waiting[:len(rows)]
                self._ends = [end - len(rows) for end in self._ends[count:]]
                self._acked += count


def _at_exit() -> None:
    until = time.monotonic() + EXIT_SECONDS
    for run_id, live in list(_loggers.items()):
        if not live.flush(max(0.0, until - time.monotonic())) and live.rows.error is None:
            warnings.warn("the service has not stored all that was logged to run '%s', and this process ends" % run_id, RuntimeWarning)


def _after_fork() -> None:
    """A child has loggers of its own; its parent's threads, and what they held, are not there."""
    global _lock
    _lock = threading.Lock()
    _loggers.clear()


_lock = threading.Lock()
_loggers: Dict[str, LiveRun] = {}
os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)
