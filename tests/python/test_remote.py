"""A machine that is attached: this box itself, through an sshd of the test's own."""
import getpass
import os
import shutil
import subprocess

import pytest
from conftest import wait_until

from azureml.core import Experiment, ScriptRunConfig
from azureml.core.compute import ComputeTarget, RemoteCompute
from azureml.core.compute_target import ComputeTargetException

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin")
SYSTEM = "/usr/bin/python3"


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """(port, parameters of attach_configuration) of an sshd on 127.0.0.1."""
    assert SSHD, "there is no sshd; `make setup` installs openssh-server"
    home = tmp_path_factory.mktemp("sshd")
    for name in ("host", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(home / name)], check=True)
    shutil.copy(str(home / "key.pub"), str(home / "authorized"))
    port = free_port()
    (home / "config").write_text(
        "Port %d\nListenAddress 127.0.0.1\nHostKey %s\nAuthorizedKeysFile %s\nStrictModes no\nUsePAM no\nPidFile none\n"
        "PasswordAuthentication no\nPermitRootLogin yes\n" % (port, home / "host", home / "authorized"))
    (home / "ssh").write_text("Host *\n  StrictHostKeyChecking no\n  UserKnownHostsFile %s\n  LogLevel ERROR\n" % (home / "known"))
    if os.geteuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)
    server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(home / "config")], stderr=open(str(home / "log"), "w"))
    wait_until(lambda: "listening" in (home / "log").read_text())
    yield port, {"username": getpass.getuser(), "private_key_file": str(home / "key"), "ssh_config": str(home / "ssh"),
                 "folder": str(home / "cache")}
    server.terminate()
    server.wait()


def test_the_notebooks_cell(workspace, machine, project):
    port, login = machine
    compute_target_name = "attached"
    try:
        attached = RemoteCompute(workspace=workspace, name=compute_target_name)
        pytest.fail("it should not exist yet")
    except ComputeTargetException:
        attached = RemoteCompute.attach(workspace=workspace, name=compute_target_name, address="127.0.0.1", ssh_port=port,
                                        **login)
        attached.wait_for_completion(show_output=True)
    assert (attached.name, attached.type, attached.provisioning_state) == (compute_target_name, "VirtualMachine", "Succeeded")
    assert (attached.address, attached.ssh_port, attached.username) == ("127.0.0.1", port, getpass.getuser())
    assert type(workspace.compute_targets[compute_target_name]) is RemoteCompute
    with pytest.raises(ComputeTargetException, match="'attached' already.*detach\\(\\) lets it go"):
        RemoteCompute.attach(workspace=workspace, name=compute_target_name, address="127.0.0.1", ssh_port=port, **login)
    (node,) = attached.list_nodes()
    assert (node["nodeId"], node["nodeState"], node["port"], node["runId"]) == ("127.0.0.1", "idle", port, None)
    assert attached.get_status().serialize()["nodeStateCounts"]["idleNodeCount"] == 1

    project("src/train.py", "import os\nfrom azureml.core import Run\nRun.get_context().log('loss', 0.5)\nos.makedirs('outputs', exist_ok=True)\n"
            "open('outputs/a', 'w').write('there')\nprint('from afar')\n")
    config = ScriptRunConfig("src", "train.py", compute_target=attached)
    config.run_config.environment.python.interpreter_path = SYSTEM
    run = Experiment(workspace, "remote").submit(config)
    assert run.wait_for_completion()["status"] == "Completed"
    assert run.get_metrics("loss") == {"loss": 0.5} and "outputs/a" in run.get_file_names()
    assert "from afar" in run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"]
    attached.detach()
    with pytest.raises(ComputeTargetException):
        RemoteCompute(workspace, compute_target_name)


def test_a_machine_that_does_not_answer(workspace, machine):
    config = RemoteCompute.attach_configuration(address="127.0.0.1", ssh_port=free_port(), **machine[1])
    with pytest.raises(ComputeTargetException, match="127.0.0.1.*(?i:refused)"):
        ComputeTarget.attach(workspace, "silent", attach_configuration=config)
    assert "silent" not in workspace.compute_targets
