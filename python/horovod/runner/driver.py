"""The launcher's server: hands functions to workers and takes results; an elastic job adds its own messages."""
import socket
from typing import Callable, Dict, Optional

from .loop import Loop
from .wire import Session, WireError

SHAKE_S = 10.0
MAX_CONNECTIONS = 65536


class Connection:
    """A worker that is connected; `worker` is its number once it has said hello."""

    def __init__(self, driver: "Driver", sock: socket.socket):
        self._driver, self._sock = driver, sock
        self._session = Session(driver.secret, server=True)
        self.worker: Optional[int] = None
        self.closed = False
        self._flush()

    def readable(self):
        """Read what there is; anything that is wrong ends the connection."""
        try:
            data = self._sock.recv(1 << 20)
        except BlockingIOError:
            data = None
        except OSError:
            data = b""
        try:
            if data == b"":
                raise WireError("closed")
            for message, payload in self._session.feed(data) if data else ():
                self._driver.message(self, message, payload)
        except (WireError, ValueError, KeyError, TypeError):
            self.close()
        self._flush()

    def send(self, message: dict, payload: bytes = b"") -> None:
        if not self.closed:
            self._session.send(message, payload)
            self._flush()

    def shaken(self):
        """Called SHAKE_S after the connection was made."""
        if self.worker is None:
            self.close()

    def _flush(self):
        if self.closed:
            return
        out = self._session.outgoing
        try:
            if out:
                del out[:self._sock.send(out[:1 << 20])]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        self._driver.loop.watch(self._sock.fileno(), self.readable, write=bool(out))

    def close(self):
        if not self.closed:
            self.closed = True
            self._driver.loop.forget(self._sock.fileno())
            self._sock.close()
            self._driver.gone(self)


class Driver:
    """Listens on `host` (None: everywhere) and a free port."""

    def __init__(self, loop: Loop, host: Optional[str], secret: str):
        self.loop, self.secret = loop, secret
        self.function: Optional[bytes] = None
        self.results: Dict[int, bytes] = {}     # by worker
        # For an elastic job: on_message(connection, message), and on_hello(connection).
        self.on_message: Callable = lambda connection, message: None
        self.on_hello: Callable = lambda connection: None
        self._connections = set()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
        self._sock.bind((host or "", 0))
        self._sock.listen(1024)
        self.port = self._sock.getsockname()[1]
        loop.watch(self._sock.fileno(), self._accept)

    def environment(self, address: str, worker: int) -> Dict[str, str]:
        """Where worker number `worker` finds this server."""
        return {"TRAINYARD_HOROVOD_DRIVER": "%s:%d" % (address, self.port), "TRAINYARD_HOROVOD_WORKER": str(worker)}

    def _accept(self):
        try:
            sock, _ = self._sock.accept()
        except OSError:
            return
        if len(self._connections) >= MAX_CONNECTIONS:
            sock.close()
            return
        sock.setblocking(False)
        connection = Connection(self, sock)
        if not connection.closed:
            self._connections.add(connection)
            self.loop.after(SHAKE_S, connection.shaken)

    def message(self, connection: Connection, message: dict, payload: bytes) -> None:
        """A message of somebody who knows the secret."""
        op = message["op"]
        if op == "hello":
            connection.worker = int(message["worker"])
            self.on_hello(connection)
        elif connection.worker is None:
            connection.close()
        elif op == "function":
            connection.send({"op": "function"}, self.function or b"")
        elif op == "result":
            self.results[connection.worker] = payload
            connection.send({"op": "taken"})
        else:
            self.on_message(connection, message)

    def gone(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def close(self) -> None:
        for connection in list(self._connections):
            connection.close()
        self.loop.forget(self._sock.fileno())
        self._sock.close()
