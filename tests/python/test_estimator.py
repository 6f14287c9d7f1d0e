"""Estimators and configurations: every parameter of both eras, contradictions, arguments. Nothing is submitted here."""
import inspect
import os
import warnings

import pytest

from azureml.core import Environment, RunConfiguration, ScriptRunConfig, _service
from azureml.core._submit import specification
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.container_registry import ContainerRegistry
from azureml.core.runconfig import (DataReferenceConfiguration, DockerConfiguration, MpiConfiguration, PyTorchConfiguration,
                                    TensorflowConfiguration)
from azureml.data.datapath import DataPath
from azureml.exceptions import UserErrorException
from azureml.train.dnn import Chainer, Gloo, Mpi, Nccl, ParameterServer, PyTorch, TensorFlow
from azureml.train.estimator import Estimator
from azureml.train.sklearn import SKLearn
from trainyard.interpreter import Found

SYSTEM = "/usr/bin/python3"
REFERENCE = ("source_directory compute_target vm_size vm_priority entry_script script_params node_count process_count_per_node "
             "distributed_backend distributed_training use_gpu use_docker custom_docker_base_image custom_docker_image "
             "image_registry_details user_managed conda_packages pip_packages conda_dependencies_file_path "
             "pip_requirements_file_path conda_dependencies_file pip_requirements_file environment_variables "
             "environment_definition inputs source_directory_data_store shm_size resume_from max_run_duration_seconds "
             "_disable_validation _show_lint_warnings _show_package_warnings").split()


@pytest.fixture(autouse=True)
def source(project):
    project("proj/train.py", "print('hello')\n")
    _service._warned.clear()


def spec_of(config):
    """The run specification of an estimator or configuration."""
    ready = config._as_script_run_config() if hasattr(config, "_as_script_run_config") else config
    return specification(ready)


def estimator(kind=Estimator, **parameters):
    return kind("proj", entry_script="train.py", **parameters)


@pytest.mark.parametrize("kind, more, less", [
    (Estimator, (), ()), (PyTorch, ("framework_version", "_enable_optimized_mode"), ()), (Chainer, ("framework_version",), ()),
    (TensorFlow, ("worker_count", "parameter_server_count", "framework_version"), ()),
    (SKLearn, ("framework_version",), ("node_count", "process_count_per_node", "distributed_backend", "distributed_training", "use_gpu"))])
def test_signature(kind, more, less):
    names = list(inspect.signature(kind).parameters)
    assert (set(REFERENCE) | set(more)) - set(less) == set(names) - ({"_enable_optimized_mode"} - set(more))
    assert names[0] == "source_directory" and not set(less) & set(names) and set(more) <= set(names)
    kinds = {n: p.kind for n, p in inspect.signature(kind).parameters.items()}
    assert kinds["source_directory"] == inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert all(k == inspect.Parameter.KEYWORD_ONLY for n, k in kinds.items() if n != "source_directory")


def test_script_params_in_order(workspace):
    ds = workspace.get_default_datastore()
    est = estimator(script_params={"--data_dir": ds, "--lr": 0.01, "--verbose": "", "--n": 3, "--flag": True,
                                   "--out": ds.path("out", "o").as_upload(), "--rank": "$AZ_BATCHAI_TASK_INDEX"})
    spec = spec_of(est)
    assert spec["arguments"] == [
        "--data_dir", "$AZUREML_DATAREFERENCE_workspaceblobstore", "--lr", "0.01", "--verbose", "--n", "3", "--flag", "True",
        "--out", "$AZUREML_DATAREFERENCE_o", "--rank", "$AZ_BATCHAI_TASK_INDEX"]
    assert spec["data_references"]["workspaceblobstore"]["mode"] == "mount"
    assert spec["data_references"]["o"] == {"datastore": "workspaceblobstore", "path": "out", "mode": "upload",
                                            "path_on_compute": None, "overwrite": False}
    assert (spec["script"], spec["target"], spec["use_gpu"]) == ("train.py", "local", False)


def test_inputs_and_resume_from(workspace):
    ds = workspace.get_default_datastore()
    spec = spec_of(estimator(inputs=[ds.path("in", "i").as_download()], resume_from=DataPath(ds, "checkpoints")))
    assert spec["data_references"]["i"]["mode"] == "download"
    assert spec["arguments"] == ["--resume-from", "$AZUREML_DATAREFERENCE_MODEL_LOCATION"]
    assert spec["data_references"]["MODEL_LOCATION"]["path"] == "checkpoints"


def test_all_cloud_parameters_are_accepted_and_warn_once():
    registry = ContainerRegistry()
    registry.address, registry.username, registry.password = "a", "b", "secret"
    parameters = {"vm_size": "STANDARD_NC6", "vm_priority": "lowpriority", "use_docker": True, "custom_docker_image": "image",
                  "image_registry_details": registry, "source_directory_data_store": object(), "shm_size": "8g"}
    with pytest.warns(UserWarning) as caught:
        est = estimator(**parameters)
    assert len(caught) == 3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator(**parameters)
    spec = spec_of(est)
    assert "'secret'" not in repr(spec) and (spec["environment"]["image"]["name"], spec["environment"]["image"]["shm_size"]) == ("a/image", "8g")
    with pytest.warns(UserWarning, match="'image' has no effect, because use_docker is False"):
        assert "environment" not in spec_of(estimator(**dict(parameters, use_docker=False)))["environment"]
    with pytest.raises(UserErrorException, match="image_registry_details is of type str"):
        estimator(image_registry_details="registry.example")


def test_environment_variables_become_texts():
    assert spec_of(estimator(environment_variables={"A": 1, "B": "x"}))["environment_variables"] == {"A": "1", "B": "x"}


def test_environment_definition_is_the_only_one():
    env = Environment("mine")
    env.environment_variables = {"A": "env"}
    with pytest.raises(UserErrorException, match="environment_definition and pip_packages are both given; put what it says"):
        estimator(environment_definition=env, pip_packages=["numpy"])
    with pytest.raises(UserErrorException, match="and user_managed, environment_variables are both given; put what they say"):
        estimator(environment_definition=env, user_managed=True, environment_variables={"A": 1})
    est = estimator(environment_definition=env, use_gpu=False, use_docker=False)
    assert est.run_config.environment is env
    assert spec_of(est)["environment_variables"] == {"A": "env"}


@pytest.mark.parametrize("parameters, words", [
    ({"node_count": 2}, "node_count = 2 asks for several processes, and distributed_backend is None.* give distributed_backend='mpi'"),
    ({"process_count_per_node": 2}, "process_count_per_node = 2 asks for several"),
    ({"node_count": 0}, "node_count"), ({"node_count": "two"}, "node_count"), ({"node_count": 2.0}, "node_count"),
    ({"node_count": 2, "process_count_per_node": 0, "distributed_backend": "mpi"}, "process_count_per_node is 0"),
    ({"distributed_training": MpiConfiguration(node_count=3), "node_count": 2}, "node_count is 2, and that of MpiConfiguration is 3"),
    ({"distributed_training": PyTorchConfiguration(process_count=3), "node_count": 2}, "process_count is 3, .* node_count = 2"),
    ({"distributed_backend": "smoke"}, "distributed_backend is 'smoke', and may be 'mpi'"),
    ({"distributed_training": "mpi"}, "distributed_training is of type str"),
    ({"distributed_backend": "ps"}, "distributed_backend = 'ps' asks for parameter servers"),
    ({"distributed_training": ParameterServer(worker_count=2)}, "ParameterServer asks for parameter servers"),
    ({"distributed_backend": "mpi", "distributed_training": Mpi()}, "distributed_backend and distributed_training"),
    ({"conda_dependencies_file": "a", "conda_dependencies_file_path": "a"}, "conda_dependencies_file"),
    ({"pip_requirements_file": "a", "pip_requirements_file_path": "b"}, "pip_requirements_file"),
    ({"custom_docker_image": "a", "custom_docker_base_image": "b"}, "custom_docker_image"),
    ({"script_params": ["--lr", 1]}, "script_params"), ({"script_params": {1: 2}}, "script_params"),
    ({"script_params": {"--lr": None}}, "'--lr'"), ({"script_params": {"--lr": [1, 2]}}, "'--lr'"),
    ({"script_params": {"--x": "a\0b"}}, "NUL"), ({"inputs": "ds"}, "inputs"), ({"inputs": [3]}, "inputs"),
    ({"conda_packages": "numpy"}, "conda_packages"), ({"pip_packages": [3]}, "pip_packages"), ({"pip_packages": ["=="]}, "pip_packages"),
    ({"conda_dependencies_file": "missing.yml"}, "missing.yml"), ({"pip_requirements_file": "missing.txt"}, "missing.txt"),
    ({"environment_variables": ["A"]}, "environment_variables"), ({"environment_variables": {"A": None}}, "'A'"),
    ({"environment_definition": "env"}, "environment_definition"), ({"compute_target": 3}, "compute_target"),
    ({"use_gpu": "yes"}, "use_gpu")])
@pytest.mark.parametrize("kind", [Estimator, PyTorch, TensorFlow, Chainer])
def test_contradictions_and_bad_types(kind, parameters, words):
    with pytest.raises(UserErrorException, match=words):
        estimator(kind, **parameters)


@pytest.mark.parametrize("parameters, words", [
    ({"resume_from": "path"}, "resume_from"), ({"max_run_duration_seconds": -1}, "max_run_duration_seconds"),
    ({"max_run_duration_seconds": "1h"}, "max_run_duration_seconds")])
def test_what_is_checked_at_submission(parameters, words):
    with pytest.raises(UserErrorException, match=words):
        spec_of(estimator(**parameters))


def test_the_entry_script():
    with pytest.raises(UserErrorException, match="entry_script"):
        Estimator("proj")
    with pytest.raises(UserErrorException, match="entry_script 'trian.py'.*'train.py'"):
        spec_of(Estimator("proj", entry_script="trian.py"))
    with pytest.raises(UserErrorException, match="source_directory 'nowhere' does not exist"):
        spec_of(Estimator("nowhere", entry_script="train.py"))
    with pytest.raises(UserErrorException, match="source_directory 'proj/train.py' is not a folder"):
        spec_of(Estimator("proj/train.py", entry_script="train.py"))
    with pytest.raises(UserErrorException, match="source_directory is of type int"):
        Estimator(3, entry_script="train.py")


def test_an_entry_script_outside(project, tmp_path):
    project("outside.py", "")
    (tmp_path / "proj" / "link.py").symlink_to(tmp_path / "outside.py")
    for name in ("../outside.py", str(tmp_path / "outside.py"), "link.py"):
        with pytest.raises(UserErrorException, match="outside of source_directory"):
            spec_of(Estimator("proj", entry_script=name))
    assert spec_of(Estimator("proj", entry_script=str(tmp_path / "proj" / "train.py")))["script"] == "train.py"


def test_packages_that_are_there_are_accepted(project):
    project("proj/conda.yml", "name: x\nchannels:\n- conda-forge\ndependencies:\n- python=3.11\n- pip:\n  - azureml-defaults\n")
    project("proj/requirements.txt", "# comment\nazureml-sdk\n")
    est = estimator(conda_dependencies_file="conda.yml", pip_requirements_file="requirements.txt", pip_packages=["azureml-core"])
    est.run_config.environment.python.interpreter_path = SYSTEM
    assert spec_of(est)["interpreter"] == SYSTEM
    assert list(est.conda_dependencies.pip_packages) == ["azureml-defaults", "azureml-sdk", "azureml-core"]


def test_packages_that_are_not_there_are_asked_for(project):
    project("proj/more.txt", "-r less.txt\ntabulate\n")
    project("proj/less.txt", "attrs>=1\n")
    est = estimator(pip_packages=["horovod==0.15.2", "tabulate==0.9"], conda_packages=["no-such-thing"], pip_requirements_file="more.txt")
    est.run_config.environment.python.interpreter_path = SYSTEM
    spec = spec_of(est)
    assert spec["interpreter"] == SYSTEM and not spec["warnings"]
    assert spec["environment"] == {"conda": {"packages": ["no-such-thing"]}, "pip": {"packages": ["attrs>=1", "horovod==0.15.2", "tabulate==0.9"]}}
    est.conda_dependencies.remove_pip_package("horovod")
    est.conda_dependencies.remove_conda_package("no-such-thing")
    est.conda_dependencies.remove_conda_package("pytorch=0.4.0")
    assert spec_of(est)["environment"] == {"pip": {"packages": ["attrs>=1", "tabulate==0.9"]}}


def test_user_managed_checks_no_packages():
    assert spec_of(estimator(user_managed=True, pip_packages=["no-such-thing"]))["environment"] == {"user_managed": True}


def test_another_python_version_gives_a_warning():
    est = estimator(conda_packages=["python=3.6.2"])
    est.run_config.environment.python.interpreter_path = SYSTEM
    assert any("python=3.6.2" in w for w in spec_of(est)["warnings"])


def test_an_interpreter_without_torch(project, tmp_path):
    """It is the one that torch is built for; a user who manages it has to have torch there."""
    fake = project("bare-python", "#!/bin/sh\necho '{\"version\": [3, 11, 2], \"torch\": false}'\n")
    fake.chmod(0o755)
    for kind, environment in ((PyTorch, {"torch": ""}), (Estimator, {})):
        est = estimator(kind)
        est.run_config.environment.python.interpreter_path = str(fake)
        assert (spec_of(est)["interpreter"], spec_of(est)["environment"]) == (str(fake), environment)
    est = estimator(PyTorch, user_managed=True)
    est.run_config.environment.python.interpreter_path = str(fake)
    with pytest.raises(UserErrorException, match="bare-python.*has no torch.*python3-torch"):
        spec_of(est)


def test_framework_version_is_the_version_of_torch():
    est = estimator(PyTorch, framework_version="1.4", use_gpu=True)
    assert (spec_of(est)["environment"], spec_of(est)["use_gpu"]) == ({"torch": "1.4"}, True)
    est = estimator(PyTorch, framework_version=1.4, conda_packages=["torchvision", "pytorch"], pip_packages=["torch==1.4.0"])
    assert spec_of(est)["environment"] == {"torch": "1.4.0", "torchvision": ""}
    assert "torch" not in spec_of(estimator(PyTorch, custom_docker_image="x", framework_version="1.4"))["environment"]


# TensorFlow, Chainer, SKLearn

@pytest.fixture
def python_with(project, tmp_path):
    """python_with(name=version...) -> the path of an interpreter that has these distributions."""
    def make(**there):
        for name, version in there.items():
            name = name.replace("_", "-")
            project("site/%s-%s.dist-info/METADATA" % (name, version), "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version))
        fake = project("python3-other", "#!/bin/sh\nPYTHONPATH='%s' exec %s \"$@\"\n" % (tmp_path / "site", SYSTEM))
        fake.chmod(0o755)
        return str(fake)
    return make


ACCEPTED = {
    "compute_target": "local", "vm_size": "STANDARD_NC6", "vm_priority": "dedicated", "script_params": {"--lr": 0.1}, "node_count": 1,
    "process_count_per_node": 1, "use_gpu": True, "use_docker": False, "custom_docker_base_image": "image", "custom_docker_image": "image",
    "image_registry_details": ContainerRegistry(), "user_managed": True, "conda_packages": ["python=3.11"], "pip_packages": ["azureml-core"],
    "conda_dependencies_file_path": "conda.yml", "pip_requirements_file_path": "pip.txt", "conda_dependencies_file": "conda.yml",
    "pip_requirements_file": "pip.txt", "environment_variables": {"A": 1}, "environment_definition": Environment("e"),
    "inputs": lambda ds: [ds.path("x", "i").as_mount()], "source_directory_data_store": lambda ds: ds, "shm_size": "8g",
    "resume_from": lambda ds: DataPath(ds, "ck"), "max_run_duration_seconds": 60, "framework_version": "1.13", "worker_count": 1,
    "parameter_server_count": 1, "_enable_optimized_mode": True, "_disable_validation": False, "_show_lint_warnings": True,
    "_show_package_warnings": True}
SEVERAL_PROCESSES = {"distributed_backend", "distributed_training"}


@pytest.mark.parametrize("kind", [Estimator, PyTorch, TensorFlow, Chainer, SKLearn])
def test_each_parameter_of_both_eras_is_accepted(kind, project, workspace, python_with):
    """One at a time: each makes an estimator that can be submitted, and nothing is warned of twice."""
    project("proj/conda.yml", "dependencies:\n- python=3.11\n")
    project("proj/pip.txt", "azureml-sdk\n")
    python = python_with(tensorflow="1.13", chainer="1.13", scikit_learn="1.13")
    names = set(inspect.signature(kind).parameters) - {"source_directory", "entry_script"} - SEVERAL_PROCESSES
    ds = workspace.get_default_datastore()
    for name in sorted(names):
        value = ACCEPTED[name](ds) if callable(ACCEPTED[name]) else ACCEPTED[name]
        with warnings.catch_warnings(record=True) as first:
            warnings.simplefilter("always")
            made = kind(source_directory="proj", entry_script="train.py", **{name: value})
            kind("proj", entry_script="train.py", **{name: value})
        assert len(first) <= 1, name
        if not made.run_config.environment.python.user_managed_dependencies:
            made.run_config.environment.python.interpreter_path = python if kind is not PyTorch else SYSTEM
        assert spec_of(made)["script"] == "train.py", name


FRAMEWORKS = [(TensorFlow, "tensorflow"), (Chainer, "chainer"), (SKLearn, "scikit-learn")]


@pytest.mark.parametrize("kind, package", FRAMEWORKS)
def test_their_package_is_asked_for(kind, package, python_with):
    est = kind(source_directory="proj", compute_target="local", entry_script="train.py", script_params={"--C": 0.5},
               pip_packages=["azureml-core"])
    assert list(est.conda_dependencies.pip_packages) == [package, "azureml-core"]
    est.run_config.environment.python.interpreter_path = SYSTEM
    assert spec_of(est)["environment"] == {"pip": {"packages": [package, "azureml-core"]}}
    est.run_config.environment.python.interpreter_path = python_with(**{package: "2.0.1"})
    assert spec_of(est)["arguments"] == ["--C", "0.5"] and not spec_of(est)["warnings"]
    assert spec_of(estimator(kind, user_managed=True))["script"] == "train.py"


@pytest.mark.parametrize("kind, package", FRAMEWORKS)
def test_their_framework_version(kind, package, python_with):
    est = estimator(kind, framework_version="1.13")
    est.run_config.environment.python.interpreter_path = python = python_with(**{package: "2.0.1"})
    assert spec_of(est)["warnings"] == ["framework_version 1.13 is asked for, and %s has %s 2.0.1, which the run uses" % (python, package)]
    est = estimator(kind, framework_version="2.0")
    est.run_config.environment.python.interpreter_path = python
    assert spec_of(est)["warnings"] == [] and spec_of(est)["environment"] == {"pip": {"packages": [package]}}
    if package != "scikit-learn":
        est.run_config.environment.python.interpreter_path = SYSTEM
        assert spec_of(est)["environment"] == {"pip": {"packages": ["%s==2.0.*" % package]}}


def test_the_submitting_python_is_used_when_it_has_what_is_asked_for(python_with, monkeypatch):
    """scikit-learn here, torch in the system's Python: the run needs no torch."""
    monkeypatch.setattr("sys.executable", python_with(scikit_learn="1.2"))
    monkeypatch.setattr("trainyard.interpreter.probe", lambda path: Found(path, [3, 11, 2], path == SYSTEM))
    assert spec_of(estimator(SKLearn))["interpreter"].endswith("python3-other")
    assert spec_of(estimator(Estimator))["interpreter"] == SYSTEM
    assert spec_of(estimator(PyTorch))["interpreter"] == SYSTEM


def test_an_environment_definition_has_all_packages_itself():
    env = Environment("mine")
    assert list(TensorFlow("proj", entry_script="train.py", environment_definition=env).conda_dependencies.pip_packages) == []


@pytest.mark.parametrize("parameters, words", [
    ({"worker_count": 2}, "worker_count asks for parameter servers"), ({"parameter_server_count": 2}, "parameter_server_count asks"),
    ({"worker_count": 0}, "worker_count is 0"), ({"node_count": 2, "worker_count": 2, "distributed_backend": "ps"}, "parameter servers"),
    ({"distributed_training": TensorflowConfiguration()}, "TensorflowConfiguration asks for parameter servers")])
def test_parameter_servers_are_refused_by_name(parameters, words):
    with pytest.raises(UserErrorException, match="TensorFlow: .*" + words if "0" not in words else words):
        estimator(TensorFlow, **parameters)


def test_counts_of_one_are_one_process(python_with):
    est = estimator(TensorFlow, node_count=1, process_count_per_node=1, worker_count=1, parameter_server_count=1)
    est.run_config.environment.python.interpreter_path = python_with(tensorflow="2.0")
    assert spec_of(est)["script"] == "train.py"


# ScriptRunConfig

def test_arguments_as_text_and_list(workspace):
    ds = workspace.get_default_datastore()
    assert spec_of(ScriptRunConfig("proj", "train.py", arguments="--a 'b c' -d"))["arguments"] == ["--a", "b c", "-d"]
    assert spec_of(ScriptRunConfig("proj", arguments=["--n", 1, "--data", ds.path("x", "d").as_mount()]))["arguments"] == [
        "--n", "1", "--data", "$AZUREML_DATAREFERENCE_d"]
    assert spec_of(ScriptRunConfig(source_directory="proj", script="train.py"))["arguments"] == []


def test_a_placeholder_with_its_configuration(workspace):
    ds = workspace.get_default_datastore()
    config = ScriptRunConfig("proj", "train.py", arguments=["--data-folder", str(ds.as_download())])
    with pytest.raises(UserErrorException, match="'workspaceblobstore', which the run does not have"):
        spec_of(config)
    config.run_config.data_references = {ds.name: DataReferenceConfiguration(
        datastore_name=ds.name, path_on_datastore="train", mode="download", overwrite=True)}
    assert spec_of(config)["data_references"][ds.name]["path"] == "train"


def test_two_references_of_one_name(workspace):
    ds = workspace.get_default_datastore()
    with pytest.raises(UserErrorException, match="data_reference_name"):
        spec_of(ScriptRunConfig("proj", arguments=[ds.as_mount(), ds.as_download()]))


def test_command():
    spec = spec_of(ScriptRunConfig("proj", command="python train.py --x $HOME && echo done"))
    assert spec["command"][:2] == ["/bin/sh", "-c"] and spec["expand"] is False and not {"script", "interpreter"} & set(spec)
    python, rest = spec["command"][2].split(" ", 1)
    assert os.access(python, os.X_OK) and rest == "train.py --x $HOME && echo done"
    words = spec_of(ScriptRunConfig("proj", command=["python3", "train.py", "a b", 3]))["command"][2]
    assert words.endswith(' train.py "a b" 3')
    with pytest.raises(UserErrorException, match="script and command"):
        ScriptRunConfig("proj", script="train.py", command="ls")


@pytest.mark.parametrize("parameters, words", [
    ({"run_config": 3}, "run_config"), ({"environment": "env"}, "environment"), ({"arguments": 3}, "arguments"),
    ({"arguments": "'open"}, "arguments"), ({"colour": "red"}, "colour")])
def test_bad_script_run_configs(parameters, words):
    with pytest.raises(UserErrorException, match=words):
        ScriptRunConfig("proj", **parameters)


def test_run_configuration_is_copied_and_a_misspelling_is_taken():
    rc = RunConfiguration(framework="python", conda_dependencies=CondaDependencies.create(pip_packages=["azureml-defaults"]))
    rc.target = "local"
    config = ScriptRunConfig("proj", "train.py", run_config=rc, enviroment=Environment("e"))
    config.run_config.target = "other"
    assert rc.target == "local" and config.run_config.environment.name == "e"


def test_what_the_tree_says_of_processes_contradicts_itself():
    for change, words in (
            ({"node_count": 2}, "node_count = 2 asks for several processes, and run_config.communicator is 'None'"),
            ({"mpi": MpiConfiguration(process_count_per_node=4)}, "process_count_per_node = 4 asks for several"),
            ({"pytorch": PyTorchConfiguration(process_count=4)}, "pytorch.process_count = 4 asks for several"),
            ({"communicator": "Smoke"}, "communicator is 'Smoke', and may be"),
            ({"communicator": "ParameterServer"}, "communicator = 'ParameterServer' asks for parameter servers"),
            ({"communicator": "Mpi", "node_count": 0}, "node_count is 0"), ({"framework": "PySpark"}, "framework is 'PySpark'"),
            ({"communicator": "Mpi", "node_count": 2, "mpi": MpiConfiguration(node_count=3)}, "node_count is 2, .*mpi.node_count is 3"),
            ({"communicator": "Nccl", "node_count": 2, "pytorch": PyTorchConfiguration(process_count=5)}, "process_count is 5"),
            ({"max_restarts": {"bad_luck": 1}}, "max_restarts is .*'node_lost'"), ({"max_restarts": {"error": -1}}, "error is -1"),
            ({"hang_timeout_seconds": "1m"}, "hang_timeout_seconds is '1m'"), ({"tensorflow": 3}, "run_config.tensorflow is of type int")):
        config = ScriptRunConfig("proj")
        for name, value in change.items():
            setattr(config.run_config, name, value)
        with pytest.raises(UserErrorException, match=words):
            spec_of(config)
    for name in ("worker_count", "parameter_server_count"):
        config = ScriptRunConfig("proj")
        setattr(config.run_config.tensorflow, name, 2)
        with pytest.raises(UserErrorException, match="tensorflow.%s = 2 asks for parameter servers" % name):
            spec_of(config)


def test_docker_warns_once():
    with pytest.warns(UserWarning, match="container"):
        spec_of(ScriptRunConfig("proj", docker_runtime_config=DockerConfiguration(use_docker=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spec_of(ScriptRunConfig("proj", docker_runtime_config=DockerConfiguration(use_docker=True)))


# CondaDependencies

def test_conda_files_there_and_back(tmp_path):
    made = CondaDependencies.create(conda_packages=["numpy=1.24"], pip_packages=["azureml-defaults"], python_version="3.11")
    made.add_channel("pytorch")
    made.add_conda_package("numpy")
    made.save_to_file(str(tmp_path))
    back = CondaDependencies(str(tmp_path / "conda_dependencies.yml"))
    assert back.as_dict() == made.as_dict() == {
        "name": "project_environment", "channels": ["pytorch"],
        "dependencies": ["python=3.11", "numpy", {"pip": ["azureml-defaults"]}]}
    assert back.get_python_version() == "3.11"


@pytest.mark.parametrize("text, dependencies", [
    ("dependencies:\n  - a\n  - pip:\n      - b==1 # why\n      - 'c>=2'\n", ["a", {"pip": ["b==1", "c>=2"]}]),
    ("name: x\ndependencies: [a, b]\n", ["a", "b"]),
    ("# head\n---\ndependencies:\n- \"a\"\n-   pip\n- pip:\n  - -r x\n  - d\n- e\n", ["a", "pip", "e", {"pip": ["-r x", "d"]}]),
    ("dependencies:\n", [])])
def test_conda_files_as_people_write_them(tmp_path, text, dependencies):
    (tmp_path / "c.yml").write_text(text)
    assert CondaDependencies(str(tmp_path / "c.yml")).as_dict()["dependencies"] == dependencies


@pytest.mark.parametrize("text, line", [("dependencies:\n- a\n   - b\n", 3), ("- a\n", 1), ("name: x\ndependencies:\n\t- a\n", 3),
                                        ("dependencies:\n- {a: b}\n", 2), ("a\n", 1)])
def test_damaged_conda_files_are_refused_by_line(tmp_path, text, line):
    (tmp_path / "c.yml").write_text(text)
    with pytest.raises(UserErrorException, match="c.yml.*line %d" % line):
        CondaDependencies(str(tmp_path / "c.yml"))
