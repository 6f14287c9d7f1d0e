"""Which hosts there are now."""
import os
import signal
import subprocess
from typing import Callable, Dict, List, Optional

from ..common.util.hosts import HostInfo, parse_hosts
from ..loop import Loop

INTERVAL_S = 1.0
SCRIPT_S = 30.0             # a script that takes longer is killed
MAX_OUTPUT = 1 << 20


def parse(text: str, slots: Optional[int]) -> Dict[str, int]:
    """Lines `host:slots`, or `host` with `slots`; in their order."""
    found: Dict[str, int] = {}
    for line in text.splitlines():
        line = line.strip()
        if not line:
            continue
        host = HostInfo.from_string(line, slots or 0)       # no slots named anywhere: 0 is refused there
        found[host.hostname] = found.get(host.hostname, 0) + host.slots
    return found


class FixedHosts:
    """Hosts that are there from the start to the end."""

    def __init__(self, hosts: List[HostInfo]):
        self.hosts = {host.hostname: host.slots for host in hosts}

    def start(self, loop: Loop, found: Callable[[Dict[str, int]], None], failed: Callable[[str], None]) -> None:
        loop.after(0, lambda: found(dict(self.hosts)))

    def close(self) -> None:
        """Nothing to end."""

    @classmethod
    def from_text(cls, text: str, slots: Optional[int]) -> "FixedHosts":
        return cls(parse_hosts(text, slots or 1))


class HostDiscoveryScript:
    """A program that prints the hosts; run again INTERVAL_S after it has ended.

    found(hosts) is called after each success, failed(text) after each failure.
    """

    def __init__(self, script: str, slots: Optional[int] = None):
        self._script, self._slots = script, slots
        self._process: Optional[subprocess.Popen] = None
        self._closed = False

    def start(self, loop: Loop, found: Callable[[Dict[str, int]], None], failed: Callable[[str], None]) -> None:
        self._loop, self._found, self._failed = loop, found, failed
        self._ask()

    def _ask(self):
        if self._closed:
            return
        script = os.path.abspath(self._script) if os.path.exists(self._script) else self._script
        self._output = b""
        try:
            self._process = subprocess.Popen([script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                             start_new_session=True)
        except OSError as e:
            self._failed("cannot run '%s': %s" % (self._script, e.strerror))
            self._loop.after(INTERVAL_S, self._ask)
            return
        process, fd = self._process, self._process.stdout.fileno()
        os.set_blocking(fd, False)
        self._loop.watch(fd, lambda: self._read(process))
        self._loop.after(SCRIPT_S, lambda: self._late(process))

    def _read(self, process):
        try:
            data = os.read(process.stdout.fileno(), 65536)
        except BlockingIOError:
            return
        self._output += data
        if not data or len(self._output) > MAX_OUTPUT:
            self._loop.forget(process.stdout.fileno())
            process.stdout.close()
            self._wait(process)

    def _wait(self, process):
        """It has closed its output, and is about to exit."""
        if self._process is not process:
            return
        status = process.poll()
        if status is None:
            self._loop.after(0.01, lambda: self._wait(process))
            return
        self._end(process)
        try:
            if status != 0:
                raise ValueError("it ended with status %d" % status)
            hosts = parse(self._output.decode("utf-8", "replace"), self._slots)
        except ValueError as e:
            self._failed("'%s' does not tell the hosts: %s" % (self._script, e))
        else:
            self._found(hosts)
        self._loop.after(INTERVAL_S, self._ask)

    def _late(self, process):
        if self._process is not process:
            return
        if not process.stdout.closed:
            self._loop.forget(process.stdout.fileno())
            process.stdout.close()
        self._end(process)
        self._failed("'%s' has not ended within %g s and was killed" % (self._script, SCRIPT_S))
        self._loop.after(INTERVAL_S, self._ask)

    def _end(self, process):
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except OSError:
            pass
        process.wait()
        self._process = None

    def close(self) -> None:
        self._closed = True
        process = self._process
        if process:
            if not process.stdout.closed:
                self._loop.forget(process.stdout.fileno())
                process.stdout.close()
            self._end(process)
