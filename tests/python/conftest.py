"""A state folder, caches and configuration of their own for the whole session; nothing is left behind.

BUILD names the build to test (default: build/). The first call that needs the daemon starts it.
"""
import os
import shutil
import subprocess
import sys
import tempfile
import time

import pytest

BUILD = os.environ.get("BUILD") or os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "build")
BUILD = os.path.abspath(BUILD)
ROOT = tempfile.mkdtemp(prefix="ty-py.", dir=os.environ.get("TMPDIR"))

os.environ.update(TRAINYARD_HOME=os.path.join(ROOT, "home"), XDG_CACHE_HOME=os.path.join(ROOT, "cache"),
                  XDG_CONFIG_HOME=os.path.join(ROOT, "config"), PYTHONPATH=os.path.join(BUILD, "python"),
                  PATH=BUILD + os.pathsep + os.environ["PATH"])
for _name in ("TRAINYARD_RUN_ID", "TRAINYARD_SPOOL_DIR"):
    os.environ.pop(_name, None)
sys.path.insert(0, os.path.join(BUILD, "python"))

END_SECONDS = 10
DEBIAN_PYTHON = (3, 11)         # by whose run docs/compat.md is judged: the other interpreter may have another torch


def pytest_configure(config):
    config.compat_recorder = None
    here = os.path.dirname(os.path.abspath(__file__))
    whole = all(os.path.realpath(a) == here for a in config.args) and not config.getoption("keyword")
    if whole and sys.version_info[:2] == DEBIAN_PYTHON and os.path.realpath(sys.executable).startswith("/usr/bin/"):
        import compat

        config.compat_recorder = compat.Recorder(os.path.realpath(os.path.join(BUILD, "python")))
        config.compat_recorder.start()


def pytest_collection_modifyitems(config, items):
    """test_compat.py comes last, and only where the whole run is recorded."""
    last = [item for item in items if item.fspath.basename == "test_compat.py"]
    items[:] = [item for item in items if item not in last] + (last if config.compat_recorder else [])


def pytest_runtest_setup(item):
    if item.config.compat_recorder:
        item.config.compat_recorder.test = "%s::%s" % (item.fspath.basename, item.originalname)


def left_running():
    """Processes that belong to this session's state folder: (pid, command line)."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/environ" % pid, "rb") as file:
                marked = b"TRAINYARD_JOB=" + ROOT.encode() in file.read()
            with open("/proc/%s/cmdline" % pid, "rb") as file:
                words = file.read().split(b"\0")
        except OSError:
            continue
        if marked or (words[0].endswith(b"trainyardd") and any(ROOT.encode() in w for w in words)):
            found.append((int(pid), b" ".join(words).decode("utf-8", "replace")))
    return found


@pytest.fixture(scope="session", autouse=True)
def installation():
    """Ends what the session started, and checks that nothing of it goes on."""
    yield
    if os.path.exists(os.environ["TRAINYARD_HOME"]):
        subprocess.run([os.path.join(BUILD, "trainyard"), "down"], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL, timeout=60)
    until = time.monotonic() + END_SECONDS
    while left_running() and time.monotonic() < until:
        time.sleep(0.05)
    left = left_running()
    for pid, _ in left:
        os.kill(pid, 9)
    shutil.rmtree(ROOT, ignore_errors=True)
    assert not left, "left running: %s" % left


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty folder as the current one, and a function that writes files below it."""
    monkeypatch.chdir(tmp_path)

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


@pytest.fixture
def workspace():
    from azureml.core import Workspace

    return Workspace("trainyard", "trainyard", "trainyard")


@pytest.fixture
def submit(project, workspace):
    """submit(text of a script, **parameters of ScriptRunConfig) -> run."""
    from azureml.core import Experiment, ScriptRunConfig

    def go(text, experiment="tests", **parameters):
        project("src/train.py", text)
        config = ScriptRunConfig("src", script="train.py", **parameters)
        config.run_config.environment.python.interpreter_path = "/usr/bin/python3"
        return Experiment(workspace, experiment).submit(config)

    return go


def wait_until(condition, seconds=20):
    """Poll for something to become true, bounded."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not become true within %d s" % seconds
        time.sleep(0.02)
