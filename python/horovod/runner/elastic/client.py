"""The worker's side of an elastic job; docs/spec/horovod-elastic.md."""
import os
import threading
import time
from typing import Callable, Optional

from ..common.util.hosts import SlotInfo
from ..link import Link
from ..settings import rendezvous_environment, world_secret
from ..wire import WireError

DEFAULT_TIMEOUT_S = 600.0


def timeout_of_environment() -> float:
    """How long a worker waits for a world."""
    try:
        return float(os.environ.get("HOROVOD_ELASTIC_TIMEOUT") or DEFAULT_TIMEOUT_S)
    except ValueError:
        return DEFAULT_TIMEOUT_S


class WorkerClient:
    """One for the process.  A thread of its own listens to the driver."""

    _lock = threading.Lock()
    _only: Optional["WorkerClient"] = None
    _pid = 0

    def __init__(self, link: Link):
        self._link = link
        self._changed = threading.Condition()
        self._world: Optional[dict] = None
        self._ended: Optional[str] = None       # why no world will come
        self._status = 0
        self._callback: Optional[Callable[[float, bool], None]] = None
        self._update: Optional[tuple] = None    # the last one that nobody was there to hear
        self._has_state = False
        self._fresh = False                     # a world is in the environment that was not entered yet
        threading.Thread(target=self._listen, name="horovod-elastic", daemon=True).start()

    @classmethod
    def from_env(cls) -> Optional["WorkerClient"]:
        """The client of this process; None where no driver started it.  OSError when the driver cannot be reached."""
        if os.environ.get("HOROVOD_ELASTIC") != "1":
            return None
        with cls._lock:
            if cls._only is None or cls._pid != os.getpid():
                cls._only, cls._pid = cls(Link.from_env()), os.getpid()
            return cls._only

    # ---- what the driver says ----

    @property
    def on_hosts_updated(self) -> Optional[Callable[[float, bool], None]]:
        """Called as (timestamp, added_only) from the listening thread when the world is to change."""
        return self._callback

    @on_hosts_updated.setter
    def on_hosts_updated(self, callback):
        with self._changed:
            self._callback = callback
            update, self._update = (self._update, None) if callback else (None, self._update)
        if update:
            callback(*update)

    def _listen(self):
        try:
            while True:
                message, _ = self._link.receive()
                self._heard(message)
        except (OSError, WireError, KeyError, TypeError, ValueError) as e:
            self._end("the launcher is gone: %s" % e, 1)

    def _heard(self, message):
        op = message["op"]
        if op == "world":
            with self._changed:
                self._world, self._update = message, None
                self._changed.notify_all()
        elif op == "hosts":
            update = (float(message["timestamp"]), bool(message["added_only"]))
            with self._changed:
                callback = self._callback
                if callback is None:
                    self._update = update
                    self._changed.notify_all()
            if callback is not None:
                callback(*update)
        elif op == "leave":
            self._end(str(message.get("why", "")), 0)

    def _end(self, why, status):
        with self._changed:
            if self._ended is None:
                self._ended, self._status = why, status
            self._changed.notify_all()

    # ---- what the worker asks ----

    def commit(self) -> None:
        """This worker has a state from which others can go on."""
        self._has_state = True

    def next_world(self, timeout_s: Optional[float] = None) -> None:
        """Wait for a place in a new world and put it into os.environ.

        SystemExit when this worker is not wanted any more (status 0) or the launcher is gone (status 1); TimeoutError
        when the driver has had nothing for `timeout_s`.
        """
        timeout = timeout_of_environment() if timeout_s is None else timeout_s
        deadline = time.monotonic() + timeout
        with self._changed:
            self._world = None
        try:
            self._link.send({"op": "ready", "has_state": self._has_state})
        except OSError as e:
            self._end("the launcher is gone: %s" % e, 1)
        with self._changed:
            while self._world is None and self._ended is None:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no world within %g s: too few workers are left, see the launcher's messages"
                                       % timeout)
                self._changed.wait(left)
            if self._world is None:
                raise SystemExit(self._ended if self._status else 0)
            world, self._world = self._world, None
        self._enter(world)

    def _enter(self, world):
        place = SlotInfo(os.environ.get("HOROVOD_HOSTNAME", ""), *(int(world[name]) for name in (
            "rank", "local_rank", "cross_rank", "size", "local_size", "cross_size")))
        secret = world_secret(os.environ["HOROVOD_SECRET_KEY"], int(world["generation"]), str(world["salt"]))
        os.environ.update(place.environment())
        os.environ.update(rendezvous_environment(str(world["host"]), int(world["port"]), secret))
        self._fresh = True

    def enter(self) -> None:
        """Before the engine is opened: there is a world in the environment that was not entered before."""
        if not self._fresh:
            self.next_world()
        self._fresh = False
