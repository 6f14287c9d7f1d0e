"""A worker's connection to the launcher that started it."""
import os
import socket
import time
from typing import Tuple

from .wire import Session, WireError


class Link:
    """Connects and says hello.  All calls may raise OSError or WireError; one thread sends, one receives."""

    def __init__(self, address: str, secret: str, worker: int, timeout_s: float = 30.0):
        host, _, port = address.rpartition(":")
        self._session = Session(secret, server=False)
        self._waiting = []
        deadline = time.monotonic() + timeout_s
        self._sock = socket.create_connection((host.strip("[]"), int(port)), timeout_s)
        try:
            while not self._session.ready:
                self._feed(self._receive(deadline))
            self.send({"op": "hello", "worker": worker})
        except BaseException:
            self._sock.close()
            raise
        self._sock.settimeout(None)

    @classmethod
    def from_env(cls, timeout_s: float = 30.0) -> "Link":
        """The launcher that the environment names; OSError when it names none."""
        try:
            address, secret = os.environ["TRAINYARD_HOROVOD_DRIVER"], os.environ["HOROVOD_SECRET_KEY"]
            worker = int(os.environ["TRAINYARD_HOROVOD_WORKER"])
        except (KeyError, ValueError):
            raise OSError("the environment names no launcher: start this program with horovodrun") from None
        try:
            return cls(address, secret, worker, timeout_s)
        except (OSError, WireError) as e:
            raise OSError("cannot reach the launcher at %s: %s" % (address, e)) from e

    def _receive(self, deadline):
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise socket.timeout("timed out")
            self._sock.settimeout(left)
        data = self._sock.recv(1 << 20)
        if not data:
            raise ConnectionError("the launcher has closed the connection")
        return data

    def _feed(self, data):
        self._waiting += self._session.feed(data)
        if not self._session.ready or self._session.outgoing:
            self._flush()

    def _flush(self):
        out = bytes(self._session.outgoing)
        self._session.outgoing.clear()
        self._sock.sendall(out)

    def send(self, message: dict, payload: bytes = b"") -> None:
        self._session.send(message, payload)
        self._flush()

    def receive(self, timeout_s: float = None) -> Tuple[dict, bytes]:
        """The next message."""
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while not self._waiting:
            self._waiting += self._session.feed(self._receive(deadline))
        return self._waiting.pop(0)

    def close(self) -> None:
        try:
            self._sock.shutdown(socket.SHUT_RDWR)       # wakes a thread that receives
        except OSError:
            pass
        self._sock.close()
