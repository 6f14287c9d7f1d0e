"""The launcher's server and the worker's client, in one process."""
import os
import queue
import socket
import threading

import pytest

from horovod.runner.driver import Driver
from horovod.runner.elastic import client as client_module
from horovod.runner.elastic.client import WorkerClient
from horovod.runner.link import Link
from horovod.runner.loop import Loop
from horovod.runner.settings import new_secret, world_secret
from horovod.runner.wire import WireError

WAIT_S = 30


class Launcher:
    """A Driver on a thread; what workers say comes in `said` as (connection, message)."""

    def __init__(self):
        self.said, self._calls, self._stop = queue.Queue(), queue.Queue(), False
        self._loop, self.secret = Loop(), new_secret()
        self._driver = Driver(self._loop, "127.0.0.1", self.secret)
        self._driver.function = b"f"
        self._driver.on_message = lambda connection, message: self.said.put((connection, message))
        self.address = "127.0.0.1:%d" % self._driver.port
        self._read, self._write = os.pipe()
        self._loop.watch(self._read, self._called)
        self._thread = threading.Thread(target=self._loop.run_until, args=(lambda: self._stop,), daemon=True)
        self._thread.start()

    def _called(self):
        os.read(self._read, 1)
        self._calls.get()()

    def do(self, call):
        """On the launcher's thread."""
        self._calls.put(call)
        os.write(self._write, b"x")

    def send(self, connection, **message):
        self.do(lambda: connection.send(message))

    def close(self):
        def end():
            self._stop = True
            self._driver.close()

        if self._thread.is_alive():
            self.do(end)
            self._thread.join(WAIT_S)
            self._loop.close()
            os.close(self._read)
            os.close(self._write)


@pytest.fixture
def launcher():
    it = Launcher()
    yield it
    it.close()


@pytest.fixture
def client(launcher, monkeypatch):
    monkeypatch.setattr(WorkerClient, "_only", None)
    for name in ("RANK", "SIZE", "LOCAL_RANK", "LOCAL_SIZE", "CROSS_RANK", "CROSS_SIZE", "GLOO_RENDEZVOUS_ADDR",
                 "GLOO_RENDEZVOUS_PORT"):
        monkeypatch.setenv("HOROVOD_" + name, "before")
    monkeypatch.setenv("TRAINYARD_COLL_RENDEZVOUS", "before")
    monkeypatch.setenv("TRAINYARD_COLL_SECRET", "before")
    monkeypatch.setenv("HOROVOD_ELASTIC", "1")
    monkeypatch.setenv("HOROVOD_HOSTNAME", "here")
    monkeypatch.setenv("HOROVOD_SECRET_KEY", launcher.secret)
    monkeypatch.setenv("TRAINYARD_HOROVOD_DRIVER", launcher.address)
    monkeypatch.setenv("TRAINYARD_HOROVOD_WORKER", "7")
    return WorkerClient.from_env()


def in_background(call):
    """What `call` comes to, in a queue: its value or its exception."""
    found = queue.Queue()

    def work():
        try:
            found.put(call())
        except BaseException as e:
            found.put(e)

    threading.Thread(target=work, daemon=True).start()
    return found


WORLD = dict(op="world", generation=3, salt="s", host="10.0.0.1", port=99, rank=1, size=4, local_rank=1, local_size=2,
             cross_rank=0, cross_size=2)


def test_function_and_result(launcher):
    link = Link(launcher.address, launcher.secret, 5)
    link.send({"op": "function"})
    assert link.receive(WAIT_S) == ({"op": "function"}, b"f")
    link.send({"op": "result"}, b"r" * 3000000)
    assert link.receive(WAIT_S)[0] == {"op": "taken"}
    assert launcher._driver.results == {5: b"r" * 3000000}
    link.close()


def test_strangers_are_shut_out(launcher):
    with pytest.raises((WireError, OSError)):
        Link(launcher.address, "another secret", 5, WAIT_S)
    host, port = launcher.address.split(":")
    for data in (b"GET / HTTP/1.1\r\n\r\n" + b"x" * 100, os.urandom(64)):
        with socket.create_connection((host, int(port)), WAIT_S) as s:
            assert s.recv(37, socket.MSG_WAITALL).startswith(b"TYHD\x01")
            s.sendall(data)
            try:
                assert s.recv(1) == b""
            except ConnectionResetError:
                pass
    Link(launcher.address, launcher.secret, 5, WAIT_S).close()      # and nobody else is disturbed


def test_nothing_before_hello(launcher):
    link = Link.__new__(Link)
    original, Link.send = Link.send, lambda *_: None
    try:
        link.__init__(launcher.address, launcher.secret, 5)
    finally:
        Link.send = original
    link.send({"op": "function"})
    with pytest.raises(OSError):
        link.receive(WAIT_S)


def test_without_a_launcher(monkeypatch):
    monkeypatch.delenv("HOROVOD_ELASTIC", raising=False)
    assert WorkerClient.from_env() is None
    monkeypatch.setenv("HOROVOD_ELASTIC", "1")
    monkeypatch.setattr(WorkerClient, "_only", None)
    monkeypatch.delenv("TRAINYARD_HOROVOD_DRIVER", raising=False)
    with pytest.raises(OSError, match="names no launcher"):
        WorkerClient.from_env()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        monkeypatch.setenv("TRAINYARD_HOROVOD_DRIVER", "127.0.0.1:%d" % s.getsockname()[1])
        monkeypatch.setenv("HOROVOD_SECRET_KEY", "x")
        monkeypatch.setenv("TRAINYARD_HOROVOD_WORKER", "0")
        with pytest.raises(OSError, match="cannot reach the launcher at 127.0.0.1"):
            WorkerClient.from_env()


def test_next_world(launcher, client):
    done = in_background(lambda: client.next_world(WAIT_S))
    connection, message = launcher.said.get(timeout=WAIT_S)
    assert connection.worker == 7 and message == {"op": "ready", "has_state": False}
    launcher.send(connection, **WORLD)
    assert done.get(timeout=WAIT_S) is None
    assert [os.environ["HOROVOD_" + n] for n in "RANK SIZE LOCAL_RANK LOCAL_SIZE CROSS_RANK CROSS_SIZE".split()] == [
        "1", "4", "1", "2", "0", "2"]
    assert os.environ["TRAINYARD_COLL_RENDEZVOUS"] == "10.0.0.1:99"
    assert os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"] == "10.0.0.1"
    assert os.environ["TRAINYARD_COLL_SECRET"] == world_secret(launcher.secret, 3, "s")


def test_enter_asks_once_for_each_world(launcher, client):
    done = in_background(lambda: (client.next_world(WAIT_S), client.enter()))       # as after an error: no second question
    connection, _ = launcher.said.get(timeout=WAIT_S)
    launcher.send(connection, **WORLD)
    assert done.get(timeout=WAIT_S) == (None, None) and launcher.said.empty()
    client.commit()
    done = in_background(client.enter)
    assert launcher.said.get(timeout=WAIT_S)[1] == {"op": "ready", "has_state": True}
    launcher.send(connection, **WORLD)
    assert done.get(timeout=WAIT_S) is None


def test_not_wanted_any_more(launcher, client):
    done = in_background(client.next_world)
    connection, _ = launcher.said.get(timeout=WAIT_S)
    launcher.send(connection, op="leave", why="its slot is gone")
    end = done.get(timeout=WAIT_S)
    assert isinstance(end, SystemExit) and not end.code


def test_launcher_that_goes(launcher, client):
    done = in_background(client.next_world)
    launcher.said.get(timeout=WAIT_S)
    launcher.close()
    end = done.get(timeout=WAIT_S)
    assert isinstance(end, SystemExit) and "the launcher is gone" in end.code
    with pytest.raises(SystemExit):
        client.next_world()


def test_no_world_in_time(client):
    with pytest.raises(TimeoutError, match="no world within 0.05 s"):
        client.next_world(0.05)


def test_news_of_hosts(launcher, client):
    done = in_background(client.next_world)
    connection, _ = launcher.said.get(timeout=WAIT_S)
    launcher.send(connection, **WORLD)
    done.get(timeout=WAIT_S)
    heard = queue.Queue()
    launcher.send(connection, op="hosts", timestamp=5.5, added_only=True)
    launcher.send(connection, op="unknown")
    launcher.send(connection, op="hosts", timestamp=6, added_only=False)
    with client._changed:
        assert client._changed.wait_for(lambda: client._update == (6.0, False), WAIT_S)
    client.on_hosts_updated = lambda *news: heard.put(news)     # the last that nobody heard comes, and those after it
    launcher.send(connection, op="hosts", timestamp=7, added_only=True)
    assert [heard.get(timeout=WAIT_S) for _ in range(2)] == [(6.0, False), (7.0, True)]


def test_time_to_wait(monkeypatch):
    for text, seconds in (("12", 12.0), ("", 600.0), ("x", 600.0)):
        monkeypatch.setenv("HOROVOD_ELASTIC_TIMEOUT", text)
        assert client_module.timeout_of_environment() == seconds
