"""Several processes: what estimators and configurations ask the service for."""
import pytest

from azureml.core import Experiment, RunConfiguration, ScriptRunConfig, _service
from azureml.core._submit import specification
from azureml.core.runconfig import MpiConfiguration, PyTorchConfiguration, TensorflowConfiguration
from azureml.exceptions import UserErrorException
from azureml.train.dnn import Chainer, Gloo, Mpi, Nccl, ParameterServer, PyTorch, TensorFlow
from azureml.train.estimator import Estimator


@pytest.fixture(autouse=True)
def source(project):
    project("proj/train.py", "print('hello')\n")
    _service._warned.clear()


def counts(config):
    """(nodes, processes of each, communicator) as they are sent."""
    ready = config._as_script_run_config() if hasattr(config, "_as_script_run_config") else config
    spec = specification(ready)
    return spec["node_count"], spec["process_count_per_node"], spec["communicator"]


@pytest.mark.parametrize("kind", [Estimator, PyTorch, Chainer])
@pytest.mark.parametrize("parameters, wanted", [
    ({}, (1, 1, "None")),
    ({"node_count": 2, "process_count_per_node": 1, "distributed_backend": "mpi"}, (2, 1, "Mpi")),
    ({"distributed_backend": "MPI"}, (1, 1, "Mpi")),
    ({"node_count": 2, "process_count_per_node": 4, "distributed_backend": "gloo"}, (2, 4, "Gloo")),
    ({"process_count_per_node": 4, "distributed_backend": "nccl"}, (1, 4, "Nccl")),
    ({"node_count": 2, "distributed_training": MpiConfiguration()}, (2, 1, "Mpi")),
    ({"node_count": 2, "distributed_training": Mpi(process_count_per_node=3)}, (2, 3, "Mpi")),
    ({"distributed_training": MpiConfiguration(process_count_per_node=2, node_count=2)}, (2, 2, "Mpi")),
    ({"node_count": 2, "process_count_per_node": 2, "distributed_training": Gloo()}, (2, 2, "Gloo")),
    ({"node_count": 2, "distributed_training": Nccl()}, (2, 1, "Nccl")),
    ({"node_count": 2, "distributed_training": PyTorchConfiguration("Gloo", process_count=4)}, (2, 2, "Gloo")),
    ({"node_count": 2, "distributed_training": PyTorchConfiguration()}, (2, 1, "Nccl"))])
def test_estimators(python_of_all, kind, parameters, wanted):
    est = kind("proj", entry_script="train.py", **parameters)
    if kind is not PyTorch:
        est.run_config.environment.python.interpreter_path = python_of_all
    assert counts(est) == wanted


@pytest.fixture
def python_of_all(monkeypatch):
    """An interpreter that is said to have what is asked for."""
    from trainyard import interpreter

    real = interpreter.installed
    monkeypatch.setattr(interpreter, "installed", lambda path: {**real(path), "chainer": "7.0"})
    return "/usr/bin/python3"


def test_objects_without_a_count():
    for job, wanted in ((Gloo(), "Gloo"), (Nccl(), "Nccl")):
        assert counts(PyTorch("proj", entry_script="train.py", node_count=2, distributed_training=job)) == (2, 1, wanted)


def test_the_count_of_the_object_wins():
    with pytest.warns(UserWarning, match="process_count_per_node = 4 has no effect, because distributed_training says 2"):
        est = PyTorch("proj", entry_script="train.py", process_count_per_node=4, distributed_training=Mpi(process_count_per_node=2))
    assert counts(est) == (1, 2, "Mpi")


@pytest.mark.parametrize("job, wanted", [
    (MpiConfiguration(), (1, 1, "Mpi")), (MpiConfiguration(node_count=2), (2, 1, "Mpi")),
    (MpiConfiguration(process_count_per_node=4, node_count=2), (2, 4, "Mpi")),
    (PyTorchConfiguration(process_count=8, node_count=2), (2, 4, "Nccl")), (PyTorchConfiguration(node_count=2), (2, 1, "Nccl")),
    (PyTorchConfiguration(communication_backend="Gloo", process_count=2), (1, 2, "Gloo"))])
def test_script_run_config(job, wanted):
    config = ScriptRunConfig("proj", "train.py", distributed_job_config=job)
    assert counts(config) == wanted and config.run_config.node_count == wanted[0]
    config = ScriptRunConfig("proj", "train.py")
    config.distributed_job_config = job
    assert counts(config) == wanted
    assert counts(ScriptRunConfig("proj", command=["python", "train.py"], distributed_job_config=job)) == wanted


def test_script_run_config_keeps_what_it_was_given():
    rc = RunConfiguration()
    ScriptRunConfig("proj", "train.py", run_config=rc, distributed_job_config=MpiConfiguration(2, 2))
    assert (rc.node_count, rc.communicator, rc.mpi.process_count_per_node) == (1, "None", 1)


@pytest.mark.parametrize("job, words", [
    ("mpi", "distributed_job_config is of type str; an MpiConfiguration"),
    (ParameterServer(worker_count=2), "distributed_job_config = ParameterServer asks for parameter servers"),
    (TensorflowConfiguration(), "distributed_job_config = TensorflowConfiguration asks for parameter servers"),
    (PyTorchConfiguration(process_count=3, node_count=2), "process_count is 3, which counts the processes of all nodes, .*node_count = 2")])
def test_script_run_configs_that_are_refused(job, words):
    with pytest.raises(UserErrorException, match="^(ScriptRunConfig: )?" + words if "counts" not in words else words):
        ScriptRunConfig("proj", distributed_job_config=job)


@pytest.mark.parametrize("word", ["IntelMpi", "OpenMpi", "Mpi", "mpi"])
def test_as_libraries_set_the_tree(word):
    rc = RunConfiguration()
    rc.mpi = MpiConfiguration(node_count=2)
    rc.framework = "Python"
    rc.communicator = word
    rc.node_count = 2
    assert counts(ScriptRunConfig("proj", "train.py", run_config=rc)) == (2, 1, "Mpi")
    rc.mpi = MpiConfiguration(process_count_per_node=4)
    assert counts(ScriptRunConfig("proj", "train.py", run_config=rc)) == (2, 4, "Mpi")


def test_the_tree_with_torch():
    rc = RunConfiguration(framework="PyTorch", communicator="Nccl")
    rc.node_count = 2
    assert counts(ScriptRunConfig("proj", "train.py", run_config=rc)) == (2, 1, "Nccl")
    rc.pytorch.process_count = 8
    assert counts(ScriptRunConfig("proj", "train.py", run_config=rc)) == (2, 4, "Nccl")


def test_files_of_the_tree(tmp_path):
    rc = RunConfiguration(communicator="Mpi")
    rc.mpi = MpiConfiguration(process_count_per_node=2, node_count=2)
    rc.max_restarts, rc.hang_timeout_seconds = {"node_lost": 2, "error": 0}, 60
    rc.save(str(tmp_path), "two")
    back = RunConfiguration.load(str(tmp_path), "two")
    assert counts(ScriptRunConfig("proj", "train.py", run_config=back)) == (2, 2, "Mpi")
    spec = specification(ScriptRunConfig("proj", "train.py", run_config=back))
    assert (spec["max_restarts"], spec["hang_timeout_seconds"]) == ({"node_lost": 2, "error": 0}, 60)
    RunConfiguration().save(str(tmp_path), "one")
    assert "maxRestarts" not in (tmp_path / ".azureml" / "one.runconfig").read_text()


@pytest.mark.parametrize("named, wanted", [(None, True), ("/usr/bin/python3", None)])
def test_another_machine_may_have_another_interpreter(named, wanted):
    config = ScriptRunConfig("proj", "train.py")
    config.run_config.environment.python.interpreter_path = named
    assert specification(config).get("interpreter_any") is wanted


def test_tensorflow_without_parameter_servers(python_of_all):
    with pytest.raises(UserErrorException, match="TensorFlow: distributed_training = ParameterServer asks"):
        TensorFlow("proj", entry_script="train.py", distributed_training=ParameterServer(2, 1))
    est = TensorFlow("proj", entry_script="train.py", node_count=2, distributed_backend="mpi", user_managed=True)
    assert (est.run_config.node_count, est.run_config.communicator) == (2, "Mpi")
