"""Run horovodrun for a test, and make sure that nothing is left of it."""
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid

SECONDS = 60        # of any job here; a job that takes longer is broken
END_SECONDS = 15


class Job:
    """A horovodrun that is running.  Its processes are known by a variable in their environment."""

    def __init__(self, *words, env=None, command="-m horovod.runner.launch", cwd=None):
        self.mark = uuid.uuid4().hex
        everything = dict(os.environ, TEST_MARK=self.mark, OMP_NUM_THREADS="1", **(env or {}))
        self.process = subprocess.Popen([sys.executable] + command.split() + list(map(str, words)), env=everything,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        start_new_session=True, cwd=cwd)
        self._text = {"out": "", "err": ""}
        self._changed = threading.Condition()
        self._readers = [threading.Thread(target=self._read, args=pair, daemon=True)
                         for pair in (("out", self.process.stdout), ("err", self.process.stderr))]
        for thread in self._readers:
            thread.start()

    def _read(self, name, file):
        while True:
            data = os.read(file.fileno(), 65536)
            with self._changed:
                self._text[name] += data.decode()
                self._changed.notify_all()
            if not data:
                return

    @property
    def out(self):
        return self._text["out"]

    @property
    def err(self):
        return self._text["err"]

    def wait_for(self, pattern, seconds=SECONDS):
        """Wait until a line matches; the match."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while True:
                found = re.search(pattern, self.out + "\n" + self.err, re.M)
                if found:
                    return found
                left = deadline - time.monotonic()
                ended = not any(thread.is_alive() for thread in self._readers)
                assert left > 0 and not ended, "no '%s' in:\n%s\n%s" % (pattern, self.out, self.err)
                self._changed.wait(min(left, 0.5))

    def left(self):
        """Processes of this job: (pid, command line)."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/environ" % pid, "rb") as file:
                    if ("TEST_MARK=" + self.mark).encode() not in file.read():
                        continue
                with open("/proc/%s/cmdline" % pid, "rb") as file:
                    found.append((int(pid), file.read().replace(b"\0", b" ").decode()))
            except OSError:
                pass
        return found

    def end(self, seconds=SECONDS):
        """Wait for its end: the exit status.  Nothing of it may be left."""
        try:
            status = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError("not ready within %d s:\n%s\n%s" % (seconds, self.out, self.err)) from None
        self.gone()
        for thread in self._readers:
            thread.join(END_SECONDS)
        return status

    def gone(self, seconds=END_SECONDS):
        """Assert that all processes have ended, or end within `seconds`."""
        deadline = time.monotonic() + seconds
        while self.left():
            if time.monotonic() > deadline:
                left = self.left()
                self.kill()
                raise AssertionError("left behind: %s\n%s\n%s" % (left, self.out, self.err))
            time.sleep(0.02)

    def kill(self):
        for pid, _ in self.left():
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass
        self.process.wait()


def run(*words, **options):
    """(exit status, stdout, stderr) of a horovodrun."""
    job = Job(*words, **options)
    status = job.end()
    return status, job.out, job.err


def lines(text, stream="stdout"):
    """What the ranks wrote, without the marks: {rank: [line, ...]}."""
    found = {}
    for rank, line in re.findall(r"^\[(\d+)\]<%s>:(.*)$" % stream, text, re.M):
        found.setdefault(int(rank), []).append(line)
    return found
