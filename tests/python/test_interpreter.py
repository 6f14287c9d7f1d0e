"""Which Python runs a job."""
import os
import stat
import sys

import pytest

from trainyard import interpreter


def fake(path, torch, version=(3, 11, 2)):
    """A program that answers as an interpreter with or without torch does."""
    path.write_text("#!/bin/sh\necho '{\"version\": [%d, %d, %d], \"torch\": %s}'\n" % (*version, "true" if torch else "false"))
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Sets what submits and what the system has: with torch, without it, or (None) no system Python at all."""
    def choose(mine, system):
        interpreter.probe.cache_clear()
        monkeypatch.setattr(sys, "executable", fake(tmp_path / "python3-mine", mine))
        monkeypatch.setattr(interpreter, "SYSTEM", str(tmp_path / "nothing") if system is None else
                            fake(tmp_path / "python3-system", system))
        return tmp_path
    yield choose
    interpreter.probe.cache_clear()


def test_the_submitting_one_when_it_has_torch(here):
    folder = here(True, True)
    choice = interpreter.choose()
    assert choice.found.path == str(folder / "python3-mine") and choice.notice is None


def test_else_the_system_one_with_a_notice(here):
    folder = here(False, True)
    choice = interpreter.choose()
    assert choice.found.path == str(folder / "python3-system")
    assert "python3-mine" in choice.notice and "has no torch" in choice.notice


@pytest.mark.parametrize("system", [False, None])
def test_else_an_error_that_says_how_to_get_torch(here, system):
    here(False, system)
    with pytest.raises(interpreter.InterpreterError, match="apt install python3-torch"):
        interpreter.choose()


def test_a_script_that_does_not_ask_for_torch_runs_anyway(here):
    folder = here(False, None)
    assert interpreter.choose(needs_torch=False).found.path == str(folder / "python3-mine")


def test_a_named_one_is_used_or_refused_never_replaced(here):
    folder = here(True, True)
    named = fake(folder / "python3-named", False)
    assert interpreter.choose(named, needs_torch=False).found.path == named
    with pytest.raises(interpreter.InterpreterError, match="python3-named.*has no torch"):
        interpreter.choose(named)
    with pytest.raises(interpreter.InterpreterError, match="no-such-python"):
        interpreter.choose("/nowhere/no-such-python")
    with pytest.raises(interpreter.InterpreterError, match="not on PATH"):
        interpreter.choose("no-such-python")


def test_a_program_that_is_no_python_is_refused(here):
    folder = here(True, True)
    path = folder / "liar"
    path.write_text("#!/bin/sh\necho no python here >&2\nexit 1\n")
    path.chmod(0o755)
    with pytest.raises(interpreter.InterpreterError, match="no python here"):
        interpreter.choose(str(path))


def test_an_old_one_gives_a_notice(here):
    folder = here(True, True)
    named = fake(folder / "python3-old", True, (3, 6, 9))
    assert "3.6.9" in interpreter.choose(named).notice


def test_probe_asks_in_the_environment_of_a_job(tmp_path, monkeypatch):
    """A torch that only this shell's PYTHONPATH gives would not be there in the job."""
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    interpreter.probe.cache_clear()
    before = interpreter.probe(os.path.realpath(sys.executable)).torch
    monkeypatch.delenv("PYTHONPATH")
    interpreter.probe.cache_clear()
    assert interpreter.probe(os.path.realpath(sys.executable)).torch is before


def test_installed_names_what_is_there():
    assert "pip" in interpreter.installed(sys.executable) or interpreter.installed(sys.executable)
    found = interpreter.probe(sys.executable)
    assert found.version[:2] == list(sys.version_info[:2])
