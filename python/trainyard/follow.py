"""Following a run: its states and one log, or those of all its processes, pushed by the daemon.

The stream is read by a thread of its own, so that Ctrl-C reaches a program that waits for the next event at once. A
stream that breaks because the daemon went away is taken up again after the last whole event; nothing is repeated and
nothing is missed (``docs/spec/http-api.md``, Following).
"""
import base64
import json
import queue
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional
from urllib.parse import urlencode

from trainyard import _core, errors

QUEUE_MAX = 1000  # events read ahead of a slow reader
GIVE_UP_SECONDS = 120.0  # without one event or a heartbeat, while the daemon cannot be reached
RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class Event(NamedTuple):
    """One event of a stream: ``kind`` is 'state', 'log' or 'end'; ``data`` as in docs/spec/http-api.md."""

    kind: str
    data: Dict[str, Any]

    @property
    def rank(self) -> Optional[int]:
        """The process whose log a 'log' event is of, in a stream of the logs of several."""
        return self.data.get("rank")

    @property
    def text(self) -> str:
        """The text of a 'log' event; bytes that are not UTF-8 are replaced by U+FFFD."""
        if "text" in self.data:
            return str(self.data["text"])
        return base64.b64decode(self.data.get("base64", "")).decode("utf-8", "replace")


class Parser:
    """Server-sent events out of the pieces of a stream; an event counts when its empty line has come."""

    def __init__(self) -> None:
        self._rest = b""
        self._event = ""
        self._data: List[str] = []
        self._id: Optional[str] = None
        self.last_id: Optional[str] = None

    def restart(self) -> None:
        """Forget the half event of a broken stream; ``last_id`` stays."""
        self._rest, self._event, self._data, self._id = b"", "", [], None

    def feed(self, piece: bytes) -> Iterator[Event]:
        """The events that `piece` completes. Raises ValueError for data that is no JSON object."""
        lines = (self._rest + piece).split(b"\n")
        self._rest = lines.pop()
        for raw in lines:
            line = raw.rstrip(b"\r").decode("utf-8", "replace")
            if line:
                self._field(line)
                continue
            event, data = self._event, self._data
            self.last_id = self._id or self.last_id
            self._event, self._data, self._id = "", [], None
            if data:
                yield Event(event or "message", json.loads("\n".join(data)))

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value


class Follow:
    """An iterator over the events of one run, which ends after its 'end' event. Close it, or use it with ``with``."""

    def __init__(self, connect: Callable[[], _core.Client], run: str, log: str, ranks: bool = False) -> None:
        self._connect = connect
        self._run = run
        self._query = urlencode({"log": log, "ranks": 1} if ranks else {"log": log})
        self._queue: "queue.Queue[Any]" = queue.Queue(QUEUE_MAX)
        self._parser = Parser()
        self._closed = threading.Event()
        self._connection: Optional[_core.Client] = None
        self._heard = time.monotonic()
        self._ended = False
        threading.Thread(target=self._read, name="trainyard-follow", daemon=True).start()

    def __enter__(self) -> "Follow":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        if self._ended:
            raise StopIteration
        item = self._queue.get()
        if isinstance(item, Event):
            self._ended = item.kind == "end"
            return item
        self._ended = True
        raise item

    def close(self) -> None:
        """Stop reading. May be called twice, and from another thread."""
        self._closed.set()
        self._ended = True
        connection = self._connection
        if connection is not None:
            connection.stop()
        try:
            self._queue.put_nowait(StopIteration())  # for a thread that waits in __next__
        except queue.Full:
            pass

    # What follows runs in the reading thread.

    def _put(self, item: Any) -> bool:
        while not self._closed.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def _on_data(self, piece: bytes) -> bool:
        self._heard = time.monotonic()
        for event in self._parser.feed(piece):
            if not self._put(event) or event.kind == "end":
                self._closed.set()
                return True
        return self._closed.is_set()

    def _read(self) -> None:
        tries = 0
        while not self._closed.is_set():
            before = self._heard
            try:
                self._read_once()
            except (errors.Unreachable, errors.Unavailable, ValueError) as error:
                if time.monotonic() - self._heard > GIVE_UP_SECONDS:
                    self._put(error)
                    return
            except Exception as error:  # noqa: BLE001 - it belongs to the reader of the queue
                self._put(error)
                return
            tries = 0 if self._heard != before else min(tries + 1, len(RETRY_SECONDS) - 1)
            self._closed.wait(RETRY_SECONDS[tries])

    def _read_once(self) -> None:
        self._parser.restart()
        self._connection = self._connect()
        if self._closed.is_set():
            return
        self._connection.stream("run_follow", (self._run,), self._on_data, self._query, self._parser.last_id)
