"""The program of the documentation, and what bad input gets."""
import os
import shutil
import subprocess
import sys

import pytest
from conftest import BUILD

from azureml._restclient import constants, snapshots_client
from azureml.core import Experiment, ScriptRunConfig
from azureml.core.compute_target import ComputeTargetException
from azureml.exceptions import ServiceException, SnapshotException, UserErrorException
from azureml.train.estimator import Estimator

TRAIN = """
import argparse, os
from azureml.core.run import Run
parser = argparse.ArgumentParser()
parser.add_argument('--data_dir'); parser.add_argument('--lr', type=float); parser.add_argument('--verbose', action='store_true')
args = parser.parse_args()
assert os.path.isdir(args.data_dir) and args.lr == 0.01 and args.verbose, args
run = Run.get_context()
for loss in (3.0, 2.0, 1.0):
    run.log('loss', loss)
run.tag('stage', 'warm-up')
open('outputs/model.txt', 'w').write('model')
open('logs/events.txt', 'w').write('events')
"""

PROGRAM = """
from azureml.core import Workspace, Experiment, Datastore
from azureml.core.compute import ComputeTarget, AmlCompute
from azureml.core.compute_target import ComputeTargetException
from azureml.train.dnn import PyTorch
ws = Workspace.from_config()
try:
    target = ComputeTarget(workspace=ws, name='box')
except ComputeTargetException:
    target = ComputeTarget.create(ws, 'box', AmlCompute.provisioning_configuration(vm_size='STANDARD_NC6', max_nodes=2))
    target.wait_for_completion(show_output=True)
ds = ws.get_default_datastore()
%s
run = Experiment(ws, 'first').submit(est)
run.wait_for_completion(show_output=True)
print(run.get_metrics(), run.get_file_names())
"""
PYTORCH = """est = PyTorch(source_directory='./my-pytorch-proj', script_params={'--data_dir': ds, '--lr': 0.01, '--verbose': ''},
              compute_target=target, entry_script='train.py', use_gpu=False)"""
VARIANTS = {
    "PyTorch": PYTORCH,
    "PyTorch on local": PYTORCH.replace("compute_target=target", "compute_target='local'"),
    "Estimator": "from azureml.train.estimator import Estimator\n" + PYTORCH.replace("PyTorch(", "Estimator("),
    "ScriptRunConfig": """from azureml.core import ScriptRunConfig
est = ScriptRunConfig(source_directory='./my-pytorch-proj', script='train.py', compute_target=target,
                      arguments=['--data_dir', ds.as_mount(), '--lr', 0.01, '--verbose'])""",
    "ScriptRunConfig with a text": """from azureml.core import ScriptRunConfig, RunConfiguration
rc = RunConfiguration()
rc.data_references = {ds.name: ds.as_mount().to_config()}
est = ScriptRunConfig('./my-pytorch-proj', 'train.py', arguments='--data_dir %s --lr 0.01 --verbose' % ds.as_mount(), run_config=rc)""",
}


def pythons():
    """This Python, Debian's, and the first on the PATH, each once."""
    found = {}
    for name in (sys.executable, "/usr/bin/python3", shutil.which("python3")):
        if name and os.path.exists(name):
            version = subprocess.run([name, "-c", "import sys; print(sys.executable, sys.version_info >= (3, 9))"], check=True,
                                     stdout=subprocess.PIPE, text=True).stdout.split()
            if version[1] == "True":
                found.setdefault(os.path.realpath(version[0]), version[0])
    return sorted(found.values())


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_the_program(project, variant, python):
    project("my-pytorch-proj/train.py", TRAIN)
    path = project("program.py", PROGRAM % VARIANTS[variant])
    done = subprocess.run([python, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    last = done.stdout.strip().splitlines()[-1]
    assert last.startswith("{'loss': [3.0, 2.0, 1.0]} [")
    for name in ("azureml-logs/70_driver_log.txt", "outputs/model.txt", "logs/events.txt"):
        assert "'%s'" % name in last
    assert "Streaming azureml-logs/70_driver_log.txt" in done.stdout or "Execution Summary" in done.stdout


@pytest.fixture
def count(workspace):
    """How many runs there are: nothing half-done is left behind by what is refused."""
    from azureml.core._service import client

    return lambda: sum(1 for _ in client().runs())


@pytest.fixture
def refuse(project, workspace, count):
    """refuse(config, class, words): the submission raises, and leaves no run."""
    project("proj/train.py", "print('hello')\n")

    def go(config, kind, words):
        before = count()
        with pytest.raises(kind, match=words) as caught:
            Experiment(workspace, "refused").submit(config)
        assert count() == before
        return str(caught.value)

    return go


def test_an_unknown_target(refuse):
    text = refuse(Estimator("proj", entry_script="train.py", compute_target="nosuchbox"), ComputeTargetException, "'nosuchbox'")
    assert "ComputeTarget.create" in text


def test_a_missing_source_directory_and_script(refuse):
    refuse(ScriptRunConfig("nowhere", "train.py"), UserErrorException, "source_directory 'nowhere'")
    refuse(ScriptRunConfig("proj", "trian.py"), UserErrorException, "script 'trian.py'")


def test_an_interpreter_that_is_not_there(refuse):
    config = ScriptRunConfig("proj", "train.py")
    config.run_config.environment.python.interpreter_path = "/nowhere/python3"
    refuse(config, UserErrorException, "/nowhere/python3")


@pytest.mark.parametrize("place", [snapshots_client, constants])
def test_a_snapshot_over_its_limit(refuse, project, monkeypatch, workspace, place):
    project("proj/big.bin", "x" * 200_000)
    monkeypatch.setattr(place, "SNAPSHOT_MAX_SIZE_BYTES", 100_000)
    text = refuse(ScriptRunConfig("proj", "train.py"), SnapshotException, "proj.*big.bin")
    assert ".amlignore" in text
    project("proj/.amlignore", "big.bin\n")
    run = Experiment(workspace, "tests").submit(ScriptRunConfig("proj", "train.py"))
    run.wait_for_completion()


def test_a_limit_that_was_raised(project, monkeypatch, workspace):
    project("proj/train.py", "")
    monkeypatch.setattr(snapshots_client, "SNAPSHOT_MAX_SIZE_BYTES", 1_000_000_000)
    Experiment(workspace, "tests").submit(ScriptRunConfig("proj", "train.py")).wait_for_completion()


def test_an_entry_script_that_is_ignored(refuse, project):
    project("proj/.amlignore", "*.py\n")
    refuse(ScriptRunConfig("proj", "train.py"), UserErrorException, "entry_script 'train.py' is left out.*amlignore")


def test_a_link_that_leads_out(refuse, project, tmp_path):
    (tmp_path / "proj" / "passwd").symlink_to("/etc/passwd")
    refuse(ScriptRunConfig("proj", "train.py"), SnapshotException, "passwd")


@pytest.mark.parametrize("variables", [{"AZUREML_RUN_ID": "x"}, {"TRAINYARD_HOME": "x"}, {"a b": "x"}, {"": "x"}])
def test_environment_variables_that_cannot_be(refuse, variables):
    refuse(Estimator("proj", entry_script="train.py", environment_variables=variables), UserErrorException, "environment")


@pytest.mark.parametrize("name", ["ab", "x" * 37, "-abc", "a b c", "", None, 3])
def test_names_of_experiments(workspace, name):
    with pytest.raises(UserErrorException, match="experiment"):
        Experiment(workspace, name)


def test_what_is_no_configuration(refuse, workspace):
    refuse("train.py", UserErrorException, "config is of type str")
    with pytest.raises(UserErrorException, match="workspace"):
        Experiment("ws", "abc")
    with pytest.raises(UserErrorException, match="pipeline_parameters"):
        Experiment(workspace, "abc").submit(ScriptRunConfig("."), pipeline_parameters={})
    with pytest.raises(UserErrorException, match="tags"):
        Experiment(workspace, "abc").submit(ScriptRunConfig("."), tags=["a"])


def test_a_state_folder_that_cannot_be(project, tmp_path):
    """The daemon cannot be started there: one sentence, in the SDK's class."""
    path = project("program.py", "from azureml.core import Workspace\nWorkspace.from_config().get_default_datastore()\n")
    project("file", "")
    env = dict(os.environ, TRAINYARD_HOME=str(tmp_path / "file" / "home"))
    done = subprocess.run([sys.executable, str(path)], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "ServiceException" in last and str(tmp_path / "file") in last


def test_a_daemon_that_is_down_and_may_not_be_started():
    from trainyard import Client, errors

    client = Client(home="/nowhere/trainyard", start=False)
    with pytest.raises(errors.Unreachable, match="/nowhere/trainyard"):
        client.status()
    with pytest.raises(ServiceException):
        from azureml.core._service import sdk_errors

        with sdk_errors():
            client.status()


def test_importing_the_sdk_needs_no_daemon(project):
    path = project("program.py", "import azureml.core, azureml.train.dnn, azureml.train.estimator, azureml.widgets\n"
                                 "import importlib.metadata as m\nfrom azureml.core import Run\n"
                                 "print(azureml.core.VERSION == m.version('azureml-core') == m.version('azureml-sdk'))\n"
                                 "Run.get_context().log('x', 1)\n")
    env = dict(os.environ, TRAINYARD_HOME="/nowhere")
    done = subprocess.run([sys.executable, str(path)], env=env, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
    assert done.stdout.startswith("True\n")


def test_the_extension_needs_only_glibc():
    out = subprocess.run(["readelf", "-d", os.path.join(BUILD, "python/trainyard/_core.abi3.so")], stdout=subprocess.PIPE, text=True,
                         check=True).stdout
    needed = [line.split("[")[1].rstrip("]") for line in out.splitlines() if "(NEEDED)" in line]
    assert all(n.startswith(("libc.so", "libm.so", "ld-linux", "libpthread", "libdl", "libasan", "libubsan")) for n in needed), needed
