"""Getting back what a run was submitted with."""
import os
import zipfile

import pytest
from azureml.core import Environment, Experiment, Run, ScriptRunConfig
from azureml.exceptions import RunEnvironmentException, UserErrorException


def test_restore(submit, project, tmp_path):
    project("src/lib/helper.py", "x = 1\n")
    run_sh = project("src/run.sh", "#!/bin/sh\n")
    run_sh.chmod(0o755)
    project("src/ä b.txt", "grün")
    os.makedirs("src/empty")
    os.symlink("lib/helper.py", "src/link.py")
    run = submit("print('first')\n")
    project("src/train.py", "changed since")
    place = run.restore_snapshot(path="snapshots")
    assert place == str(tmp_path / "snapshots" / ("%s.zip" % run.get_snapshot_id()))
    with zipfile.ZipFile(place) as found:
        assert set(found.namelist()) == {"empty/", "lib/helper.py", "link.py", "run.sh", "train.py", "ä b.txt"}
        assert found.read("train.py") == b"print('first')\n" and found.read("link.py") == b"lib/helper.py"
        assert found.getinfo("run.sh").external_attr >> 16 & 0o111 and not found.getinfo("train.py").external_attr >> 16 & 0o111
        assert found.read("ä b.txt").decode() == "grün" and found.testzip() is None
    assert run.restore_snapshot() == str(tmp_path / ("%s.zip" % run.get_snapshot_id()))
    with pytest.raises(UserErrorException, match="cannot restore the snapshot"):
        run.restore_snapshot(snapshot_id="0" * 64)
    assert not [name for name in os.listdir(".") if name.endswith(".part")]
    run.wait_for_completion()


def test_take(workspace, project):
    run = Experiment(workspace, "taken").start_logging(snapshot_directory=None)
    with pytest.raises(UserErrorException, match="has no snapshot"):
        run.restore_snapshot()
    project("notebook.ipynb", "{}")
    project("folder/a.txt", "a")
    snapshot = run.take_snapshot("notebook.ipynb")
    assert Run(run.experiment, run.id).get_snapshot_id() == snapshot and run.take_snapshot("folder") != snapshot
    with zipfile.ZipFile(run.restore_snapshot()) as found:
        assert found.namelist() == ["notebook.ipynb"]
    with pytest.raises(UserErrorException, match="'absent' does not exist"):
        run.take_snapshot("absent")
    with pytest.raises(RunEnvironmentException, match="has no environment"):
        run.get_environment()
    run.complete()


def test_environment(workspace, project):
    project("src/train.py", "pass\n")
    environment = Environment("mine")
    environment.environment_variables = {"A": "b"}
    environment.python.user_managed_dependencies = True
    environment.python.interpreter_path = "/usr/bin/python3"
    run = Experiment(workspace, "kept").submit(ScriptRunConfig("src", script="train.py", environment=environment))
    found = run.get_environment()
    assert isinstance(found, Environment) and found.name == "mine" and found.environment_variables == {"A": "b"}
    assert found.python.user_managed_dependencies is True and found.python.interpreter_path == "/usr/bin/python3"
    run.wait_for_completion()
