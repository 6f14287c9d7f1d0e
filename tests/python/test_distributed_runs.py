"""Runs of several processes, the way scripts make them, from the submission to their logs and metrics."""
import os
import re

import pytest
from conftest import wait_until

from azureml.core import Experiment, RunConfiguration, ScriptRunConfig, Workspace
from azureml.core.compute import AmlCompute, ComputeTarget
from azureml.core.compute_target import ComputeTargetException
from azureml.core.runconfig import MpiConfiguration, PyTorchConfiguration
from azureml.exceptions import ActivityFailedException, UserErrorException
from azureml.train.dnn import PyTorch
from azureml.widgets import RunDetails

SYSTEM = "/usr/bin/python3"


def log_names(run):
    return [n for n in run.get_file_names() if n.startswith("azureml-logs/70_")]


@pytest.fixture
def cluster(workspace):
    """As the notebooks make it."""
    try:
        return ComputeTarget(workspace=workspace, name="cpu-cluster")
    except ComputeTargetException:
        config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4)
        return ComputeTarget.create(workspace, "cpu-cluster", config)


HOROVOD = """
import torch
import horovod
import horovod.torch as hvd
from azureml.core.run import Run
hvd.init()
torch.manual_seed(hvd.rank())
model = torch.nn.Linear(3, 1)
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), named_parameters=model.named_parameters())
for step in range(3):
    optimizer.zero_grad()
    loss = model(torch.randn(4, 3)).pow(2).mean()
    loss.backward()
    optimizer.step()
same = hvd.allgather(model.weight.detach().reshape(1, -1))
assert torch.equal(same[0], same[-1]), same
print("rank %d of %d has local rank %d" % (hvd.rank(), hvd.size(), hvd.local_rank()))
Run.get_context().log("rank", hvd.rank())
"""


def test_the_documents_example(project, cluster, recwarn):
    project("my-pytorch-project/train.py", HOROVOD)
    compute_target = cluster
    ws = Workspace.from_config()
    exp = Experiment(workspace=ws, name="pytorch-distr-hvd")

    pt_est = PyTorch(source_directory='./my-pytorch-project',
                     script_params={},
                     compute_target=compute_target,
                     entry_script='train.py',
                     node_count=2,
                     process_count_per_node=1,
                     distributed_backend='mpi',
                     use_gpu=True)
    run = exp.submit(pt_est)

    details = run.wait_for_completion()
    assert (details["status"], details["target"]) == ("Completed", "cpu-cluster")
    definition = details["runDefinition"]
    assert (definition["nodeCount"], definition["communicator"], definition["mpi"]["processCountPerNode"]) == (2, "Mpi", 1)
    assert definition["pyTorch"] == {"communicationBackend": None, "processCount": None}
    assert log_names(run) == ["azureml-logs/70_driver_log_0.txt", "azureml-logs/70_driver_log_1.txt"]
    assert sorted(run.get_metrics()["rank"]) == [0, 1] and not any(n.startswith("system/") for n in run.get_metrics())
    with_logs = run.get_details_with_logs()["logFiles"]
    for rank in range(2):
        assert "rank %d of 2 has local rank 0" % rank in with_logs["azureml-logs/70_driver_log_%d.txt" % rank]
        for name in ("azureml-logs/70_driver_log_%d.txt", "azureml-logs/70_driver_log_rank_%d.txt", "user_logs/std_log_process_%d.txt",
                     "user_logs/std_log_process_%02d.txt"):
            run.download_file(name % rank, "got.txt")
            with open("got.txt") as file:
                assert "rank %d of 2" % rank in file.read()
    places = run.get_all_logs(destination="all")
    assert {os.path.basename(p) for p in places} >= {"70_driver_log_0.txt", "70_driver_log_1.txt"} and all(map(os.path.isfile, places))
    widget = RunDetails(run).get_widget_data()
    assert [(p["rank"], p["node"]) for p in widget["run_properties"]["distributed_processes"]] == [(0, 0), (1, 1)]


GLOO = """
import argparse
import torch
import torch.distributed as dist
parser = argparse.ArgumentParser()
parser.add_argument("--rank", type=int)
parser.add_argument("--dist-url")
parser.add_argument("--world-size", type=int)
args = parser.parse_args()
dist.init_process_group("gloo", init_method=args.dist_url, rank=args.rank, world_size=args.world_size)
total = torch.ones(1) * (args.rank + 1)
dist.all_reduce(total)
print("rank %d: the sum is %d" % (args.rank, total.item()))
"""


def test_arguments_of_each_process(project, cluster, workspace):
    project("proj/train.py", GLOO)
    est = PyTorch(source_directory="proj", compute_target=cluster, entry_script="train.py", node_count=2, process_count_per_node=1,
                  script_params={"--dist-url": "$AZ_BATCHAI_PYTORCH_INIT_METHOD", "--rank": "$AZ_BATCHAI_TASK_INDEX", "--world-size": 2},
                  distributed_backend="gloo")
    run = Experiment(workspace, "gloo").submit(est)
    assert run.wait_for_completion()["runDefinition"]["communicator"] == "Gloo"
    logs = run.get_details_with_logs()["logFiles"]
    for rank in range(2):
        assert "rank %d: the sum is 3" % rank in logs["azureml-logs/70_driver_log_%d.txt" % rank]


def test_by_environment_variables(project, workspace):
    project("proj/train.py", "import os\nimport torch\nimport torch.distributed as dist\ndist.init_process_group('gloo')\n"
            "total = torch.ones(1)\ndist.all_reduce(total)\nprint('sum', int(total), os.environ['NODE_RANK'], os.environ['LOCAL_RANK'])\n")
    config = ScriptRunConfig("proj", script="train.py", distributed_job_config=PyTorchConfiguration("Gloo", process_count=4, node_count=2))
    config.run_config.environment.python.interpreter_path = SYSTEM
    run = Experiment(workspace, "variables").submit(config)
    definition = run.wait_for_completion()["runDefinition"]
    assert (definition["framework"], definition["nodeCount"]) == ("PyTorch", 2)
    assert definition["pyTorch"] == {"communicationBackend": "Gloo", "processCount": 4}
    logs = run.get_details_with_logs()["logFiles"]
    said = [logs["azureml-logs/70_driver_log_%d.txt" % rank] for rank in range(4)]
    assert [re.search("sum (.*)", text).group(1) for text in said] == ["4 0 0", "4 0 1", "4 1 0", "4 1 1"]


def test_as_libraries_submit(project, workspace):
    project("proj/train.py", "import os\nprint('I am', os.environ['OMPI_COMM_WORLD_RANK'], 'of', os.environ['OMPI_COMM_WORLD_SIZE'])\n"
            "assert os.environ['AZ_BATCH_MASTER_NODE'].split(':')[0]\n")
    rc = RunConfiguration()
    rc.environment.python.interpreter_path = SYSTEM
    rc.mpi = MpiConfiguration(node_count=2)
    rc.framework = "Python"
    rc.communicator = "IntelMpi"
    rc.node_count = 2
    run = Experiment(workspace, "library").submit(ScriptRunConfig("proj", "train.py", run_config=rc))
    assert run.wait_for_completion()["runDefinition"]["communicator"] == "IntelMpi"
    assert log_names(run) == ["azureml-logs/70_driver_log_0.txt", "azureml-logs/70_driver_log_1.txt"]
    assert run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log_1.txt"] == "I am 1 of 2\n"


def test_a_command_runs_once_per_node(project, workspace):
    project("proj/x", "")
    config = ScriptRunConfig("proj", command="echo node $NODE_RANK of $AZ_BATCHAI_TASK_INDEX",
                             distributed_job_config=MpiConfiguration(node_count=2))
    config.run_config.environment.python.interpreter_path = SYSTEM
    run = Experiment(workspace, "commands").submit(config)
    run.wait_for_completion()
    logs = run.get_details_with_logs()["logFiles"]
    assert [logs["azureml-logs/70_driver_log_%d.txt" % n] for n in range(2)] == ["node 0 of 0\n", "node 1 of 1\n"]


def several(workspace, project, text, **counts):
    project("proj/train.py", text)
    config = ScriptRunConfig("proj", "train.py", distributed_job_config=MpiConfiguration(**counts))
    config.run_config.environment.python.interpreter_path = SYSTEM
    return Experiment(workspace, "several").submit(config)


def test_output_of_all_processes(project, workspace, capsys):
    run = several(workspace, project, "import os\nfor i in range(3):\n    print('line', i, 'of', os.environ['RANK'])\nprint('end', end='')\n",
                  process_count_per_node=2)
    run.wait_for_completion(show_output=True)
    out = capsys.readouterr().out
    assert "Streaming azureml-logs/70_driver_log_*.txt" in out
    for rank in range(2):
        mine = [line for line in out.splitlines() if line.startswith("[%d] " % rank)]
        assert mine == ["[%d] line %d of %d" % (rank, i, rank) for i in range(3)] + ["[%d] end" % rank]
    RunDetails(run).show()
    assert "1 nodes x 2" in capsys.readouterr().out


def test_a_process_that_fails_is_named(project, workspace):
    run = several(workspace, project, "import os, time\nif os.environ['RANK'] == '1':\n    raise ValueError('the third layer')\n"
                  "time.sleep(600)\n", node_count=3)
    with pytest.raises(ActivityFailedException, match=r"(?s)rank 1 .*exit.*code 1.*The last lines of its log:.*the third layer"):
        run.wait_for_completion()
    assert run.get_status() == "Failed"


def test_canceled(project, workspace):
    run = several(workspace, project, "import time\nprint('begun', flush=True)\ntime.sleep(600)\n", process_count_per_node=2)
    wait_until(lambda: all("begun" in text for text in (
        run.get_details_with_logs()["logFiles"].get("azureml-logs/70_driver_log_%d.txt" % n, "") for n in range(2))))
    assert run.cancel() is True
    assert run.wait_for_completion()["status"] == "Canceled"


def test_more_nodes_than_the_cluster_has(project, cluster, workspace):
    project("proj/train.py", "pass\n")
    est = PyTorch("proj", entry_script="train.py", compute_target=cluster, node_count=5, distributed_backend="mpi")
    with pytest.raises(UserErrorException, match="cpu-cluster"):
        Experiment(workspace, "many").submit(est)
