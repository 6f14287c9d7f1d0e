"""Worker processes: started here or through ssh, watched, and ended with everything that they started.

A local worker leads a process group of its own.  It is ended with SIGTERM, then SIGKILL after GRACE_S, both to the
group; what is left of the group when its leader has exited is killed.  If the launcher dies, the kernel tells its
children (PR_SET_PDEATHSIG) and the guardian ends the groups; a worker behind ssh sees the end of its input.
"""
import collections
import ctypes
import os
import signal
import subprocess
import sys
import time
from typing import Callable, Dict, List, Optional

from . import guardian, ssh
from .loop import Loop
from .output import Output

GRACE_S = 5.0
DRAIN_S = 2.0           # for output after the exit, where a process outside the group keeps the pipe open
SSH_AT_ONCE = 4         # connections being made to a host; its sshd may refuse more than 10 (MaxStartups)
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def status_text(status: int) -> str:
    """What a status of subprocess means."""
    if status >= 0:
        return "exited with status %d" % status
    try:
        return "was killed by signal %d (%s)" % (-status, signal.Signals(-status).name)
    except ValueError:
        return "was killed by signal %d" % -status


class Process:
    """A worker.  `rank` is what its lines are marked with; status is None until it has ended and all is read."""

    def __init__(self, host: str, rank, on_exit: Callable[["Process"], None]):
        self.host, self.rank, self.on_exit = host, rank, on_exit
        self.remote = False
        self.status: Optional[int] = None
        self.ending = False         # it was told to end, so that its status says nothing about the job
        self.connected = True       # False: ssh has not said MARK yet
        self.popen: Optional[subprocess.Popen] = None
        self.open = {}              # stream name -> descriptor
        self.head = b""             # of a remote worker's stdout, until MARK
        self.pidfd = -1
        self.exited = False

    @property
    def pid(self) -> int:
        return self.popen.pid if self.popen else 0

    @property
    def where(self) -> str:
        return "host %s" % self.host + ("" if self.remote or not self.pid else ", pid %d" % self.pid)

    def __str__(self):
        return "rank %s (%s)" % (self.rank, self.where)


class Processes:
    """All workers of a launcher."""

    def __init__(self, loop: Loop, output: Output):
        self._loop, self._output = loop, output
        self.live: List[Process] = []
        self._queues: Dict[str, collections.deque] = {}     # by host: (process, arguments) that wait for their ssh
        self._guardian: Optional[subprocess.Popen] = None

    # ---- starting ----

    def start_local(self, process: Process, command: List[str], environment: Dict[str, str]) -> None:
        """OSError when the command cannot be started."""
        self._guard()
        parent = os.getpid()

        def in_child():
            _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
            if os.getppid() != parent:
                os._exit(1)

        process.popen = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                         stderr=subprocess.PIPE, start_new_session=True, preexec_fn=in_child)
        self._tell_guardian("+%d\n" % process.pid)
        self._watch(process)

    def start_remote(self, process: Process, command_line: List[str], first_line: bytes) -> None:
        """Through ssh; waits its turn when many connections to that host are being made."""
        process.remote, process.connected = True, False
        self.live.append(process)
        self._queues.setdefault(process.host, collections.deque()).append((process, command_line, first_line))
        self._next_ssh(process.host)

    def _next_ssh(self, host):
        queue = self._queues.get(host)
        while queue:
            busy = sum(p.popen is not None and not p.connected and not p.exited
                       for p in self.live if p.host == host)
            if busy >= SSH_AT_ONCE:
                return
            process, command_line, first_line = queue.popleft()
            if process.ending:
                process.status = -signal.SIGTERM
                self.live.remove(process)
                process.on_exit(process)
                continue
            # A file for the input would do without the pipe, but its end has to come when this process dies.
            process.popen = subprocess.Popen(command_line, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                             stderr=subprocess.PIPE, start_new_session=True)
            self.live.remove(process)
            self._watch(process)
            self._send_slowly(process, first_line)

    def _send_slowly(self, process, data):
        """Write to ssh without blocking: a pipe holds 64 KiB, an environment can be larger."""
        fd = process.popen.stdin.fileno()
        os.set_blocking(fd, False)
        rest = memoryview(data)

        def more():
            nonlocal rest
            if process.popen.stdin.closed:
                return
            try:
                rest = rest[os.write(fd, rest):]
            except BlockingIOError:
                pass
            except OSError:
                self._loop.forget(fd)       # ssh has ended; its status says why
                return
            if rest:
                self._loop.watch(fd, more, write=True)
            else:
                self._loop.forget(fd)

        more()

    def _guard(self):
        if self._guardian is None:
            self._guardian = subprocess.Popen([sys.executable, "-I", "-S", guardian.__file__, str(GRACE_S)],
                                              stdin=subprocess.PIPE, start_new_session=True)

    def _tell_guardian(self, line):
        if self._guardian:
            try:
                self._guardian.stdin.write(line.encode())
                self._guardian.stdin.flush()
            except OSError:
                pass        # somebody killed it; the workers still have PR_SET_PDEATHSIG

    # ---- watching ----

    def _watch(self, process):
        self.live.append(process)
        for name, file in (("stdout", process.popen.stdout), ("stderr", process.popen.stderr)):
            fd = file.fileno()
            os.set_blocking(fd, False)
            process.open[name] = fd
            self._loop.watch(fd, lambda name=name: self._read(process, name))
        try:
            process.pidfd = os.pidfd_open(process.pid)
            self._loop.watch(process.pidfd, lambda: self._exited(process))
        except (AttributeError, OSError):       # a kernel before 5.3
            self._ask(process)

    def _ask(self, process):
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            self._exited(process)
        else:
            self._loop.after(0.05, lambda: self._ask(process))

    def _read(self, process, name):
        try:
            data = os.read(process.open[name], 65536)
        except BlockingIOError:
            return
        if process.remote and name == "stdout":
            data = self._after_mark(process, data)
            if data is None:
                return
        self._output.write(process, process.rank, name, data)
        if not data:
            self._close(process, name)

    def _after_mark(self, process, data):
        """None while MARK may still come; what a login script writes before it is passed on."""
        if process.connected:
            return data
        if not data:
            self._output.write(process, process.rank, "stdout", process.head)
            process.head = b""
            return data
        process.head += data
        before, mark, rest = process.head.partition(ssh.MARK + b"\n")
        if not mark:
            return None
        process.connected, process.head = True, b""
        self._next_ssh(process.host)
        return (before + rest) or None

    def _close(self, process, name):
        self._loop.forget(process.open.pop(name))
        getattr(process.popen, name).close()
        self._finish(process)

    def _exited(self, process):
        """The leader is a zombie, so that its number still means its group."""
        if process.exited:
            return
        process.exited = True
        if process.pidfd >= 0:
            self._loop.forget(process.pidfd)
            os.close(process.pidfd)
        self._signal(process, signal.SIGKILL)
        process.popen.wait()
        self._tell_guardian("-%d\n" % process.pid)
        for name in list(process.open):
            self._loop.after(DRAIN_S, lambda name=name: name in process.open and self._give_up(process, name))
        self._finish(process)

    def _give_up(self, process, name):
        self._output.write(process, process.rank, name, b"")
        self._close(process, name)

    def _finish(self, process):
        if not process.exited or process.open or process.status is not None:
            return
        if process.popen.stdin and not process.popen.stdin.closed:
            self._loop.forget(process.popen.stdin.fileno())
            process.popen.stdin.close()
        process.status = process.popen.returncode
        self.live.remove(process)
        self._next_ssh(process.host)
        process.on_exit(process)

    # ---- ending ----

    @staticmethod
    def _signal(process, number):
        try:
            os.killpg(process.pid, number)
        except OSError:
            pass

    def end(self, process: Process) -> None:
        """Ask it to end, and kill it if it has not after GRACE_S."""
        if process.ending or process.status is not None:
            return
        process.ending = True
        if process.popen is None:           # still in the queue for ssh
            self._loop.after(0, lambda: self._next_ssh(process.host))
            return
        if process.exited:
            return
        if process.remote:
            if not process.popen.stdin.closed:
                self._loop.forget(process.popen.stdin.fileno())
                process.popen.stdin.close()
            if not process.connected:
                self._signal(process, signal.SIGTERM)
        else:
            self._signal(process, signal.SIGTERM)
        # The other end of ssh needs GRACE_S itself.
        self._loop.after(GRACE_S + (2.0 if process.remote else 0.0), lambda: self.kill(process))

    def kill(self, process: Process) -> None:
        if process.popen and not process.exited:
            process.ending = True
            self._signal(process, signal.SIGKILL)

    def end_all(self) -> None:
        for process in list(self.live):
            self.end(process)

    def kill_all(self) -> None:
        for process in list(self.live):
            self.kill(process)

    def close(self) -> None:
        """Nothing is left running after this, however it came here."""
        self.end_all()
        limit = time.monotonic() + GRACE_S + 5.0
        self._loop.after(GRACE_S + 5.0, lambda: None)
        self._loop.run_until(lambda: not self.live or time.monotonic() > limit)
        if self._guardian:
            self._tell_guardian(".\n")
            try:
                self._guardian.stdin.close()
            except OSError:
                pass
            self._guardian.wait()
            self._guardian = None
