"""State that survives a change of the ranks, and the loop around a training function that makes use of it.

What happens when a rank fails (HorovodInternalError) or the hosts of the job change (HostsUpdatedInterrupt):

1. after a failure, the state goes back to the last commit; after a change of hosts it stays as it is;
2. the engine shuts down; the launcher's driver says who is in the next world, and the engine starts again there;
3. `state.on_reset()` calls the reset callbacks;
4. `state.sync()` gives every rank the state of rank 0, and the function is called again.

Step 4 is never left out, though ranks that only lost some of their peers are equal already: a new rank in the same
world would wait for it for ever.

Without an elastic launcher nobody can say who is in the next world.  Then a failure restores the state and is raised to
the caller, and a change of hosts, which only the program itself can have announced, starts the same world again.
"""
import functools
import os
import queue
import threading
from typing import Any, Callable, Dict, List, Tuple

from horovod.common.exceptions import HorovodInternalError, HostsUpdatedInterrupt


class HostUpdateResult:
    """What changed about the hosts; bits."""
    no_update = 0
    removed = 1
    added = 2
    mixed = removed | added


class State:
    """What has to be equal on all ranks, and must survive a failure.

    bcast_object(obj) gives every rank the object of rank 0; get_rank() is this rank.
    """

    def __init__(self, bcast_object: Callable[[Any], Any], get_rank: Callable[[], int]) -> None:
        self._bcast_object, self._rank = bcast_object, get_rank
        self._host_messages: "queue.Queue[Tuple[float, int]]" = queue.Queue()
        self._last_updated_timestamp: float = 0
        self._reset_callbacks: List[Callable[[], Any]] = []
        self._messages_are_new = False

    def register_reset_callbacks(self, callbacks: List[Callable[[], Any]]) -> None:
        """Functions to call after each change of the ranks, for instance to scale the learning rate again."""
        self._reset_callbacks.extend(callbacks)

    def forget_host_updates(self) -> None:
        """The next world is about to be asked for: what is known by now is part of it, what comes later may not be."""
        self._host_messages = queue.Queue()
        self._messages_are_new = True

    def on_reset(self) -> None:
        """The ranks have changed."""
        if not self._messages_are_new:
            self._host_messages = queue.Queue()
        self._messages_are_new = False
        self.reset()
        for callback in self._reset_callbacks:
            callback()

    def on_hosts_updated(self, timestamp: float, update_res: int) -> None:
        """The driver says that hosts came or went; any thread."""
        self._host_messages.put((timestamp, update_res))

    def commit(self) -> None:
        """Save, so that a failure leads back to here, and give way when the hosts have changed.  On every rank."""
        self.save()
        notifications.commit()
        self.check_host_updates()

    def check_host_updates(self) -> None:
        """HostsUpdatedInterrupt, on all ranks at once, when rank 0 has heard that the hosts have changed."""
        before = latest = self._last_updated_timestamp
        changes = HostUpdateResult.no_update
        while True:
            try:
                timestamp, change = self._host_messages.get_nowait()
            except queue.Empty:
                break
            if timestamp > latest:
                latest, changes = timestamp, changes | change
        before, self._last_updated_timestamp, changes = self._bcast_object((before, latest, changes))
        if self._last_updated_timestamp > before:
            raise HostsUpdatedInterrupt(changes == HostUpdateResult.removed)

    def save(self) -> None:
        """Remember the state as it is."""
        raise NotImplementedError

    def restore(self) -> None:
        """Back to what was remembered."""
        raise NotImplementedError

    def sync(self) -> None:
        """Take the state of rank 0, and remember it."""
        raise NotImplementedError

    def reset(self) -> None:
        """The ranks have changed; for subclasses."""


class ObjectState(State):
    """Plain values, given as keyword arguments and kept as attributes; they must be picklable."""

    def __init__(self, bcast_object: Callable[[Any], Any], get_rank: Callable[[], int], **kwargs: Any) -> None:
        self._saved_state: Dict[str, Any] = kwargs
        self._set_attrs()
        super().__init__(bcast_object=bcast_object, get_rank=get_rank)

    def save(self) -> None:
        self._saved_state = {name: getattr(self, name) for name in self._saved_state}

    def restore(self) -> None:
        self._set_attrs()

    def sync(self) -> None:
        if self._saved_state:
            # What rank 0 has now: without a commit before, that is more than what it has saved.
            self._saved_state = self._bcast_object({name: getattr(self, name) for name in self._saved_state})
            self._set_attrs()

    def _set_attrs(self) -> None:
        for name, value in self._saved_state.items():
            setattr(self, name, value)


class Notifications:
    """The connection to the launcher's driver, and the states that want to hear from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked = False
        self._listeners: List[State] = []
        self.client: Any = None

    def init(self) -> None:
        """Connect to the driver, if the environment names one; once."""
        with self._lock:
            if self._asked or os.environ.get("HOROVOD_ELASTIC") != "1":
                return
            from horovod.runner.elastic.client import WorkerClient

            self.client = WorkerClient.from_env()
            self._asked = True
            if self.client is not None:
                self.client.on_hosts_updated = self.handle_hosts_updated

    def register_listener(self, listener: State) -> None:
        with self._lock:
            self._listeners.append(listener)

    def remove_listener(self, listener: State) -> None:
        with self._lock:
            self._listeners.remove(listener)

    def handle_hosts_updated(self, timestamp: float, added_only: bool) -> None:
        """From the driver, on a thread of the client's."""
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener.on_hosts_updated(timestamp, HostUpdateResult.added if added_only else HostUpdateResult.mixed)

    def commit(self) -> None:
        """A state was saved."""
        if self.client is not None:
            self.client.commit()


notifications = Notifications()


def _next_world(init: Callable[[], Any], shutdown: Callable[[], Any]) -> None:
    """Leave this world and enter the next one that can be entered."""
    client = notifications.client
    shutdown()
    if client is None:
        init()
        return
    timeout = float(os.environ.get("HOROVOD_ELASTIC_TIMEOUT") or 600)
    while True:
        client.next_world(timeout)      # ends this process when it is not wanted any more
        try:
            init()
            return
        except (HorovodInternalError, ValueError):
            shutdown()                  # a rank of that world is gone already: the driver makes another, or gives up


def run_fn(func: Callable[..., Any], init: Callable[[], Any], shutdown: Callable[[], Any]) -> Callable[..., Any]:
    """`func(state, ...)` in the loop that this module describes."""
    @functools.wraps(func)
    def wrapper(state: State, *args: Any, **kwargs: Any) -> Any:
        notifications.init()
        notifications.register_listener(state)
        try:
            while True:
                try:
                    state.sync()
                    return func(state, *args, **kwargs)
                except HorovodInternalError:
                    state.restore()
                    if notifications.client is None:
                        raise
                except HostsUpdatedInterrupt:
                    pass
                state.forget_host_updates()
                _next_world(init, shutdown)
                state.on_reset()
        finally:
            notifications.remove_listener(state)
    return wrapper
