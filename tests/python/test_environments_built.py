"""Environments that are registered, curated, and built for runs, by pip and an index of the test's own."""
import os
import subprocess

import pytest

from azureml.core import Environment, Experiment, ScriptRunConfig, _registry
from azureml.core._submit import specification
from azureml.core.conda_dependencies import CondaDependencies
from azureml.exceptions import UserErrorException
from azureml.train.dnn import PyTorch
from azureml.train.estimator import Estimator

SYSTEM = "/usr/bin/python3"
INDEX = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "unit", "env", "index.py")
SHOW = "import sys, ty_alpha\nprint('alpha', ty_alpha.VERSION, sys.prefix != sys.base_prefix)\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    """The address of an index that has ty-alpha 1.0 and 2.0, which need ty-beta."""
    root = str(tmp_path_factory.mktemp("index") / "root")
    subprocess.run([SYSTEM, INDEX, "make", root], check=True, timeout=60)
    server = subprocess.Popen([SYSTEM, INDEX, "serve", root], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield "http://127.0.0.1:%s/simple/" % server.stdout.readline().strip()
    server.stdin.close()
    server.wait(timeout=20)


@pytest.fixture
def source(project):
    project("proj/train.py", SHOW)


def environment(index, *packages, name="built"):
    made = Environment(name)
    made.python.interpreter_path = SYSTEM
    made.python.conda_dependencies = CondaDependencies.create(pip_packages=packages, pip_indexurl=index)
    return made


def log_of(run):
    assert run.wait_for_completion()["status"] == "Completed"
    return "\n".join(open(path, encoding="utf-8").read() for path in run.get_all_logs())


# Runs

def test_an_estimator_with_packages(index, source, workspace, project):
    project("proj/requirements.txt", "--index-url %s\n-r more.txt\n" % index)
    project("proj/more.txt", "ty-alpha==1.0\n")
    est = Estimator("proj", entry_script="train.py", compute_target="local", pip_requirements_file="requirements.txt",
                    pip_packages=["azureml-defaults", "horovod==0.15.2"])
    est.run_config.environment.python.interpreter_path = SYSTEM
    run = Experiment(workspace, "packages").submit(est)
    assert "alpha 1.0 True" in log_of(run)
    assert "azureml-logs/20_image_build_log.txt" in run.get_file_names()


def test_what_cannot_be_had_is_said_by_the_resolver(index, source, workspace):
    run = Experiment(workspace, "packages").submit(ScriptRunConfig("proj", "train.py", environment=environment(index, "ty-alpha==7")))
    with pytest.raises(Exception, match="ty-alpha==7"):
        run.wait_for_completion()
    assert run.get_status() == "Failed"


def test_torch_that_is_there_is_used(source, workspace, project):
    project("proj/train.py", "import sys, torch\nprint('torch', torch.__version__, sys.executable)\n")
    est = PyTorch("proj", entry_script="train.py", compute_target="local", conda_packages=["pytorch"], pip_packages=["azureml-defaults"])
    est.run_config.environment.python.interpreter_path = SYSTEM
    run = Experiment(workspace, "packages").submit(est)
    text = log_of(run)
    assert text.rstrip().endswith(SYSTEM) and "Collecting" not in text


def test_a_command_in_its_environment(index, source, workspace):
    for command in (["python", "train.py", "--n", 1], "python train.py | cat"):
        run = Experiment(workspace, "packages").submit(ScriptRunConfig("proj", command=command, environment=environment(index, "ty-alpha==1.0")))
        assert "alpha 1.0 True" in log_of(run)


# Building ahead

def test_build(index, source, workspace, capsys):
    env = environment(index, "ty-alpha==2.0")
    ws = workspace
    details = env.build(ws)
    assert details.wait_for_completion(show_output=True).status == "Completed" and details.environment_definition is env
    out = capsys.readouterr().out
    assert "ty_alpha-2.0" in out and "ty_alpha-2.0" in details.log and "Environment 'built': built in " in out
    env.build_local(ws)
    assert "in the cache" in capsys.readouterr().out
    Environment("nothing").build(ws).wait_for_completion()
    assert "has all that it asks for" in capsys.readouterr().out
    with pytest.raises(UserErrorException, match="'built' was not built: .*ty-alpha==7"):
        environment(index, "ty-alpha==7").build(ws).wait_for_completion(show_output=False)


# Registered

def test_versions(index, workspace):
    env = environment(index, "ty-alpha==1.0", name="mine")
    env.environment_variables = {"A": "1"}
    env.docker.shm_size = "8g"
    first = env.register(workspace=workspace)
    assert (first.name, first.version, env.version) == ("mine", "1", None)
    env.python.conda_dependencies.add_pip_package("ty-beta")
    second = env.register(workspace)
    assert second.version == "2" and env.register(workspace).version == "2" and first.register(workspace).version == "1"
    latest = Environment.get(workspace=workspace, name="mine")
    assert latest.version == "2" and latest.python.conda_dependencies == second.python.conda_dependencies
    old = Environment.get(workspace, "mine", version="1")
    assert (old.version, old.environment_variables, old.docker.shm_size) == ("1", {"A": "1"}, "8g")
    assert list(old.python.conda_dependencies.pip_packages) == ["ty-alpha==1.0"]
    assert Environment.list(workspace)["mine"].version == "2" and workspace.environments["mine"].version == "2"
    with pytest.raises(UserErrorException, match="no version 3 of environment 'mine'"):
        Environment.get(workspace, "mine", version=3)
    with pytest.raises(UserErrorException, match="no environment 'yours'; registered are .*'mine'"):
        Environment.get(workspace, "yours")


def test_a_run_tells_which_version(index, source, workspace):
    environment(index, "ty-alpha==1.0", name="versioned").register(workspace)
    env = Environment.get(workspace, "versioned")
    spec = specification(ScriptRunConfig("proj", "train.py", environment=env))
    assert (spec["environment"]["name"], spec["environment"]["version"]) == ("versioned", "1")
    run = Experiment(workspace, "packages").submit(ScriptRunConfig("proj", "train.py", environment=env))
    assert "alpha 1.0 True" in log_of(run)
    assert run.get_details()["runDefinition"]["environment"]["version"] == "1"


def test_one_that_others_registered(workspace):
    """The command line says only what a run specification does."""
    from azureml.core._service import client

    client().register("environment", "other", {"environment_variables": {"B": "2"}, "spec": {
        "torch": "1.13", "torchvision": "", "python": ">=3.9", "conda": {"packages": ["zlib=1.2"], "channels": ["file:///c"]},
        "pip": {"packages": ["six"], "index_url": "https://i.example", "extra_index_urls": ["https://e.example"], "find_links": ["/w"], "pre": True}}})
    env = Environment.get(workspace, "other")
    made = env.python.conda_dependencies
    assert list(made.pip_packages) == ["six", "torch==1.13", "torchvision"] and list(made.conda_packages) == ["zlib=1.2", "python>=3.9"]
    assert list(made.pip_options) == ["--index-url https://i.example", "--pre", "--extra-index-url https://e.example", "--find-links /w"]
    assert (list(made.conda_channels), env.environment_variables, env.version) == (["file:///c"], {"B": "2"}, "1")
    client().register("environment", "image", {"spec": {"user_managed": True, "image": {"name": "debian:12", "shm_size": "1g", "arguments": ["-v"]}}})
    env = Environment.get(workspace, "image")
    assert (env.docker.enabled, env.docker.base_image, env.docker.shm_size, env.docker.arguments) == (True, "debian:12", "1g", ["-v"])
    assert [v["version"] for v in client().registered_versions("environment", "image")] == [1]
    client().forget("environment", "image")
    assert "image" not in Environment.list(workspace)


@pytest.mark.parametrize("name, words", [
    ("AzureML-Mine", "curated environments"), ("a/b", "'a/b' cannot be the name"), (None, "it has no name")])
def test_names_that_cannot_be_registered(name, words, workspace):
    with pytest.raises(UserErrorException, match=words):
        Environment(name).register(workspace)


def test_passwords_are_not_registered(workspace):
    env = environment("https://me:hunter2@index.example/simple", "six", name="secretive")
    with pytest.raises(UserErrorException, match="index with a password") as caught:
        env.register(workspace)
    assert "hunter2" not in str(caught.value)
    env = Environment.from_docker_image("imaged", "team/image")
    env.docker.base_image_registry.address, env.docker.base_image_registry.username = "registry.example", "me"
    env.docker.base_image_registry.password = "hunter2"
    env.register(workspace)
    back = Environment.get(workspace, "imaged")
    assert back.docker.base_image_registry.username == "me" and back.docker.base_image_registry.password is None
    assert back.python.user_managed_dependencies is True


# Curated

@pytest.mark.parametrize("name, environment", [
    ("AzureML-Minimal", {}), ("AzureML-PyTorch-1.6-GPU", {"torch": "1.6"}), ("AzureML-PyTorch-1.0-CPU", {"torch": "1.0"}),
    ("AzureML-pytorch-1.9-ubuntu18.04-py37-cuda11-gpu", {"torch": "1.9"}), ("AzureML-ACPT-pytorch-1.13-py38-cuda11.7-gpu", {"torch": "1.13"}),
    ("AzureML-Scikit-learn-0.20.3", {"pip": "scikit-learn"}), ("AzureML-TensorFlow-1.13-GPU", {"pip": "tensorflow==1.13.*"}),
    ("AzureML-Chainer-5.1.0-GPU", {"pip": "chainer==5.1.0.*"})])
def test_curated_names(name, environment, workspace, source):
    env = Environment.get(workspace, name)
    assert (env.name, env.version) == (name, "1")
    spec = specification(ScriptRunConfig("proj", "train.py", environment=env))["environment"]
    pip = [s for s in spec["pip"]["packages"] if not s.startswith(("azureml-", "horovod"))]
    assert {k: v for k, v in (("torch", spec.get("torch")), ("pip", " ".join(pip))) if v} == environment


def test_names_of_no_family(workspace):
    for name in ("AzureML-PySpark-MmlSpark-0.15", "AzureML-Triton"):
        with pytest.raises(UserErrorException, match="no curated environment '%s'; there are 'AzureML-Minimal'" % name):
            Environment.get(workspace, name)
    assert set(_registry.LISTED) <= set(Environment.list(workspace))


def test_a_curated_one_may_be_added_to(workspace, source):
    env = Environment.get(workspace, "AzureML-PyTorch-1.6-GPU").clone("my-env")
    env.python.conda_dependencies.add_pip_package("six")
    spec = specification(ScriptRunConfig("proj", "train.py", environment=env))["environment"]
    assert spec["torch"] == "1.6" and "six" in spec["pip"]["packages"] and env.register(workspace).version == "1"
