"""One thread that waits for descriptors, for times and for signals."""
import heapq
import itertools
import os
import selectors
import signal
import socket
import threading
import time
from typing import Callable


class Loop:
    """Callbacks run one after another in run_until(); none of them may block."""

    def __init__(self):
        self._selector = selectors.DefaultSelector()
        self._timers = []
        self._order = itertools.count()

    def watch(self, fd, callback: Callable[[], None], write: bool = False) -> None:
        """Call back whenever fd can be read (and, with `write`, whenever it can be written)."""
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if write else 0)
        try:
            self._selector.modify(fd, events, callback)
        except KeyError:
            self._selector.register(fd, events, callback)

    def forget(self, fd) -> None:
        """No more calls for fd; to be said before it is closed."""
        try:
            self._selector.unregister(fd)
        except (KeyError, ValueError):
            pass

    def after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call back once, after `seconds`."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))

    def run_until(self, done: Callable[[], bool]) -> None:
        """Work until done() is true; it is asked after each round."""
        while not done():
            wait = max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None
            for key, _ in self._selector.select(wait):
                if key.fd in self._selector.get_map():      # an earlier callback of this round may have forgotten it
                    key.data()
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()

    def close(self) -> None:
        self._selector.close()


class Signals:
    """Hands SIGINT, SIGTERM and SIGHUP to the loop while it runs; only in the main thread, where they arrive."""

    NAMES = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self, loop: Loop, callback: Callable[[int], None]):
        self._loop, self._callback, self._old = loop, callback, {}

    def __enter__(self):
        if threading.current_thread() is not threading.main_thread():
            return self
        self._read, self._write = socket.socketpair()
        self._read.setblocking(False)
        self._write.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        for name in self.NAMES:
            if signal.getsignal(name) != signal.SIG_IGN:        # as under nohup
                self._old[name] = signal.signal(name, lambda *_: None)
        self._loop.watch(self._read.fileno(), self._arrived)
        return self

    def _arrived(self):
        for number in os.read(self._read.fileno(), 64):
            if number in self._old:
                self._callback(number)

    def __exit__(self, *_):
        if not self._old and not hasattr(self, "_read"):
            return
        self._loop.forget(self._read.fileno())
        for name, old in self._old.items():
            signal.signal(name, old)
        signal.set_wakeup_fd(self._wakeup)
        self._read.close()
        self._write.close()
