"""A real sshd on addresses of the loopback network that count as other hosts."""
import importlib.util
import os
import shutil
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

HOSTS = ("127.0.0.2", "127.0.0.3")
collect_ignore = [] if importlib.util.find_spec("torch") else ["test_runner_training.py"]
SSHD = "/usr/sbin/sshd"


class Sshd:
    """port, identity (a key that it accepts), and env, in which `ssh` does not touch the user's own files."""

    def __init__(self, folder):
        if not os.path.exists(SSHD):
            pytest.fail("these tests need sshd: install openssh-server (tools/setup does)")
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
        self.identity = str(folder / "key")
        for name in ("key", "host"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        shutil.copy(folder / "key.pub", folder / "authorized")
        tools = folder / "bin"
        tools.mkdir()
        (tools / "ssh").write_text("#!/bin/sh\nexec %s -F none -o UserKnownHostsFile=%s -o GlobalKnownHostsFile=none \"$@\"\n"
                                   % (shutil.which("ssh"), folder / "known"))
        (tools / "ssh").chmod(0o755)
        self.env = {"PATH": str(tools) + os.pathsep + os.environ["PATH"]}
        self._start(folder)

    def _start(self, folder):
        # sshd does not choose a port; one that was free a moment ago may be taken, then another is tried.
        import socket

        for _ in range(5):
            with socket.socket() as s:
                s.bind((HOSTS[0], 0))
                self.port = s.getsockname()[1]
            (folder / "config").write_text("\n".join(
                ["Port %d" % self.port] + ["ListenAddress %s" % host for host in HOSTS] +
                ["HostKey %s" % (folder / "host"), "AuthorizedKeysFile %s" % (folder / "authorized"), "PidFile none",
                 "UsePAM no", "StrictModes no", "PermitRootLogin prohibit-password", "PasswordAuthentication no", ""]))
            self._process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stdin=subprocess.DEVNULL,
                                             stderr=subprocess.PIPE, text=True, env={"PATH": os.environ["PATH"]})
            heard = 0
            for line in self._process.stderr:
                heard += "Server listening" in line
                if heard == len(HOSTS):
                    threading.Thread(target=self._process.stderr.read, daemon=True).start()
                    return
            self._process.wait()
        pytest.fail("sshd does not start: %s" % line)

    def close(self):
        self._process.terminate()
        self._process.wait()


@pytest.fixture(scope="session")
def sshd(tmp_path_factory):
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.close()
