"""RunConfiguration: every attribute, files of run configurations, and the YAML in them."""
import pytest

from azureml.core import Environment, RunConfiguration, ScriptRunConfig, _service, _yaml
from azureml.core._submit import specification
from azureml.core.compute import ComputeTarget
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.runconfig import (DEFAULT_CPU_IMAGE, ContainerRegistry, DataReferenceConfiguration, DockerConfiguration,
                                    MpiConfiguration, TensorflowConfiguration)
from azureml.exceptions import UserErrorException

# As the SDK's tools write them, with the keys of the published reference.
CLOUD_FILE = """\
# The script
script: train.py
arguments: [--lr, 0.1, "--name", 'a b']
target: cpucluster
framework: Python
communicator: None
autoPrepareEnvironment: true
maxRunDurationSeconds: 600
nodeCount: 1
environment:
  # Variables of the run.
  environmentVariables:
    EXAMPLE_ENV_VAR: EXAMPLE_VALUE
    COUNT: 3
  python:
    userManagedDependencies: false
    interpreterPath: /usr/bin/python3
    condaDependenciesFile: .azureml/conda_dependencies.yml
    baseCondaEnvironment:
  docker:
    enabled: false
    baseImage: mcr.microsoft.com/azureml/base:0.2.4
    baseDockerfile:
    sharedVolumes: true
    shmSize: 2g
    arguments: []
    baseImageRegistry:
      address: registry.example
      username:
      password:
  spark:
    repositories:
    - https://mmlspark.azureedge.net/maven
    packages:
    - group: com.microsoft.ml.spark
      artifact: mmlspark_2.11
      version: '0.12'
    precachePackages: true
  databricks:
    mavenLibraries: []
  inferencingStackVersion:
history:
  outputCollection: true
  snapshotProject: true
  directoriesToWatch:
  - logs
spark:
  configuration:
    spark.app.name: Azure ML Experiment
    spark.yarn.maxAppAttempts: 1
hdi:
  yarnDeployMode: cluster
tensorflow:
  workerCount: 1
  parameterServerCount: 1
mpi:
  processCountPerNode: 1
dataReferences:
  workspaceblobstore:
    dataStoreName: workspaceblobstore
    pathOnDataStore: images/train
    mode: download
    overwrite: true
    pathOnCompute:
data: {}
sourceDirectoryDataStore:
amlcompute:
  vmSize: STANDARD_NC6
  vmPriority:
  retainCluster: false
  name:
  clusterMaxNodeCount: 1
"""


@pytest.fixture(autouse=True)
def source(project):
    project("proj/train.py", "print('hello')\n")
    _service._warned.clear()


def same(one, other):
    return one._as_dict() == other._as_dict()


def test_the_notebooks_cells(workspace):
    """train-on-amlcompute and train-on-remote-vm, put together."""
    run_config = RunConfiguration(framework="python")
    run_config.target = ComputeTarget(workspace, "local")
    run_config.environment.docker.enabled = True
    run_config.environment.docker.base_image = DEFAULT_CPU_IMAGE
    run_config.environment.python.user_managed_dependencies = False
    run_config.auto_prepare_environment = True
    run_config.environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["azureml-defaults"])
    run_config.environment.spark.precache_packages = False
    run_config.tensorflow = TensorflowConfiguration(worker_count=1, parameter_server_count=1)
    run_config.amlcompute.vm_size = "STANDARD_D2_V2"
    run_config.data_references = {"d": DataReferenceConfiguration(datastore_name="workspaceblobstore", path_on_datastore="x",
                                                                   mode="download", overwrite=True)}
    run_config.priority = 5
    config = ScriptRunConfig(source_directory="proj", script="train.py", arguments=["--n", 1], run_config=run_config)
    with pytest.warns(UserWarning, match="no container: Azure's own images"):
        spec = specification(config)
    definition = spec["azureml"]["runDefinition"]
    assert definition["environment"]["python"]["condaDependencies"]["dependencies"] == [{"pip": ["azureml-defaults"]}]
    assert definition["environment"]["spark"]["precachePackages"] is False and definition["environment"]["docker"]["enabled"] is False
    assert (definition["amlCompute"]["vmSize"], definition["priority"]) == ("STANDARD_D2_V2", 5)
    assert definition["history"] == {"outputCollection": True, "directoriesToWatch": ["logs"], "snapshotProject": True}
    assert (spec["target"], spec["arguments"], spec["script"]) == ("local", ["--n", "1"], "train.py")
    assert spec["data_references"]["d"]["mode"] == "download"


def test_everything_that_a_run_configuration_says_is_done():
    rc = RunConfiguration("train.py", ["--a", 1], "PyTorch", "None", CondaDependencies.create(pip_packages=["azureml-core"]))
    rc.target, rc.max_run_duration_seconds, rc.environment_variables = "containerinstance", 60, {"A": 2}
    rc.environment.environment_variables = {"A": "env", "B": "b"}
    rc.history.directories_to_watch = ["logs", "./outputs/", "checkpoints"]
    spec = specification(ScriptRunConfig("proj", run_config=rc))
    assert (spec["script"], spec["arguments"], spec["target"]) == ("train.py", ["--a", "1"], "local")
    assert (spec["max_run_duration_seconds"], spec["environment_variables"]) == (60, {"A": "2", "B": "b"})
    assert [n for n in spec["warnings"] if "directories_to_watch" in n] == [
        "history.directories_to_watch names 'checkpoints': only files in outputs/ and logs/ are kept"]
    assert specification(ScriptRunConfig("proj", run_config=RunConfiguration(script="train.py", arguments="-x 'a b'")))[
        "arguments"] == ["-x", "a b"]


def test_script_and_command_of_the_two_places():
    rc = RunConfiguration(command="python other.py")
    assert specification(ScriptRunConfig("proj", run_config=rc))["command"][2].endswith(" other.py")
    assert specification(ScriptRunConfig("proj", "train.py", run_config=rc))["script"] == "train.py"
    assert "script" not in specification(ScriptRunConfig("proj", command="ls", run_config=RunConfiguration("train.py")))


@pytest.mark.parametrize("name, value, words", [
    ("mpi", 3, "run_config.mpi is of type int"), ("environment", "env", "environment is of type str; an Environment"),
    ("docker", None, "run_config.docker is of type NoneType"), ("data", {"x": 1}, "run_config.data: 'x' is of type int"), ("output_data", {"x": 1}, "run_config.output_data: a dataset"),
    ("framework", "PySpark", "framework is 'PySpark'"), ("max_run_duration_seconds", "1h", "max_run_duration_seconds"),
    ("data_references", ["x"], "run_config.data_references is of type list"), ("environment_variables", [1], "environment_variables")])
def test_attributes_of_the_wrong_kind(name, value, words):
    rc = RunConfiguration()
    setattr(rc, name, value)
    with pytest.raises(UserErrorException, match=words):
        specification(ScriptRunConfig("proj", run_config=rc))


def test_sections_of_the_wrong_kind():
    rc = RunConfiguration()
    rc.environment.python.conda_dependencies = "conda.yml"
    with pytest.raises(UserErrorException, match="run_config.environment.python.conda_dependencies is of type str"):
        specification(ScriptRunConfig("proj", run_config=rc))


def test_a_conda_file_of_the_project(project):
    project("proj/env/conda.yml", "dependencies:\n- no-such-thing\n")
    rc = RunConfiguration()
    rc.environment.python.conda_dependencies_file = "env/conda.yml"
    assert specification(ScriptRunConfig("proj", run_config=rc))["environment"] == {"conda": {"packages": ["no-such-thing"]}}


# save and load

def test_there_and_back(tmp_path, workspace):
    rc = RunConfiguration("train.py", ["--data", workspace.get_default_datastore().path("in", "d").as_download(), "--lr", 0.1])
    rc.target, rc.node_count, rc.max_run_duration_seconds = ComputeTarget(workspace, "local"), 1, 77
    rc.environment = Environment("my-env")
    rc.environment.python.conda_dependencies = CondaDependencies.create(pip_packages=["azureml-core==1.0"], conda_packages=["numpy"])
    rc.environment.docker.base_dockerfile = "FROM debian\nRUN echo 'x: #1'\n"
    registry = ContainerRegistry()
    registry.address, registry.password = "a.example", "secret"
    rc.environment.docker.base_image_registry = registry
    rc.environment_variables = {"YES": "yes", "N": "1.10", "EMPTY": "", "TEXT": "a: b # c"}
    rc.docker = DockerConfiguration(True, shm_size="8g", arguments=["--ipc=host"])
    rc.mpi = MpiConfiguration(2)
    rc.save(str(tmp_path), "gpu")
    text = (tmp_path / ".azureml" / "gpu.runconfig").read_text()
    assert "secret" not in text and "processCountPerNode: 2" in text
    for name in ("gpu", "gpu.runconfig"):
        back = RunConfiguration.load(str(tmp_path), name)
        assert same(back, rc)
    assert back.environment_variables == rc.environment_variables and back.target == "local"
    assert back.arguments == ["--data", "$AZUREML_DATAREFERENCE_d", "--lr", "0.1"]
    assert back.data_references["d"].path_on_datastore == "in" and back.data_references["d"].mode == "download"
    assert back.environment.docker.base_dockerfile == rc.environment.docker.base_dockerfile
    back.node_count = 1
    back.environment.name = "other"
    back.save()  # where it was loaded from
    assert RunConfiguration.load(path=str(tmp_path / ".azureml" / "gpu.runconfig")).environment.name == "other"
    RunConfiguration.delete(str(tmp_path), "gpu")
    with pytest.raises(UserErrorException, match="there is no run configuration 'gpu'"):
        RunConfiguration.load(str(tmp_path), "gpu")


@pytest.mark.parametrize("priority", [-5, 0, 1000])
def test_a_priority_that_a_run_may_have_is_read_again(tmp_path, priority):
    rc = RunConfiguration()
    rc.priority = priority
    rc.save(str(tmp_path), "a")
    read = RunConfiguration.load(str(tmp_path), "a")
    assert read.priority == priority and specification(ScriptRunConfig("proj", run_config=read))["priority"] == priority


def test_a_file_of_its_own_for_the_packages(tmp_path):
    rc = RunConfiguration(conda_dependencies=CondaDependencies.create(conda_packages=["numpy"]))
    rc.save(str(tmp_path), "a", separate_environment_yaml=True)
    assert "numpy" in (tmp_path / ".azureml" / "environment.yml").read_text()
    assert "numpy" not in (tmp_path / ".azureml" / "a.runconfig").read_text()
    assert list(RunConfiguration.load(str(tmp_path), "a").environment.python.conda_dependencies.conda_packages) == ["numpy"]


@pytest.mark.parametrize("folder", [".azureml", "aml_config"])
def test_a_file_of_the_sdk(project, tmp_path, folder):
    project("p/%s/cpu.runconfig" % folder, CLOUD_FILE)
    project("p/.azureml/conda_dependencies.yml", "dependencies:\n- python=3.6.2\n- pip:\n  - azureml-defaults\n")
    rc = RunConfiguration.load(str(tmp_path / "p"), "cpu")
    assert (rc.script, rc.target, rc.communicator, rc.max_run_duration_seconds) == ("train.py", "cpucluster", "None", 600)
    assert rc.arguments == ["--lr", 0.1, "--name", "a b"]
    assert rc.environment.environment_variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE", "COUNT": 3}
    assert rc.environment.python.interpreter_path == "/usr/bin/python3"
    assert list(rc.environment.python.conda_dependencies.pip_packages) == ["azureml-defaults"]
    assert rc.environment.docker.base_image == "mcr.microsoft.com/azureml/base:0.2.4"
    assert rc.environment.docker.base_image_registry.address == "registry.example"
    assert rc.environment.spark.packages == [{"group": "com.microsoft.ml.spark", "artifact": "mmlspark_2.11", "version": "0.12"}]
    assert rc.spark.configuration["spark.yarn.maxAppAttempts"] == 1 and rc.amlcompute.vm_size == "STANDARD_NC6"
    assert rc.data_references["workspaceblobstore"].path_on_datastore == "images/train"
    rc.target = "local"
    spec = specification(ScriptRunConfig("proj", run_config=rc))
    assert spec["arguments"] == ["--lr", "0.1", "--name", "a b"] and spec["environment_variables"]["COUNT"] == "3"
    rc.save(str(tmp_path / "q"), "again")
    assert same(RunConfiguration.load(str(tmp_path / "q"), "again"), rc)


@pytest.mark.parametrize("text, words", [
    ("nodeCount: two\n", "cpu.runconfig': nodeCount is 'two'"), ("nodeCount: 0\n", "nodeCount is 0"),
    ("mpi:\n  processCountPerNode: x\n", "mpi: processCountPerNode"), ("environment: 3\n", "environment is 3; a mapping"),
    ("history:\n  outputCollection: maybe\n", "outputCollection is 'maybe'"), ("script: [a]\n", r"script is \['a'\]; a text"),
    ("target: local\n  x: 1\n", "line 2"), ("target: local\ntarget: x\n", "line 2: 'target' is there twice"),
    ("dataReferences:\n  d:\n    mode: teleport\n", "mode is 'teleport'"), ("data:\n  x: {}\n", "data: a dataset"),
    ("environment:\n  python:\n    condaDependenciesFile: nowhere.yml\n", "nowhere.yml"), ("- a\n", "line 1"),
    ("environment:\n  python:\n    condaDependencies:\n      dependencies: 3\n", "'dependencies' is not a list")])
def test_damaged_files(project, tmp_path, text, words):
    project(".azureml/cpu.runconfig", text)
    with pytest.raises(UserErrorException, match=words):
        RunConfiguration.load(str(tmp_path), "cpu")


def test_an_unknown_key_is_told_of(project, tmp_path):
    project(".azureml/cpu.runconfig", "target: local\nnodecount: 1\nprepareEnvironment: false\nnodes: 4\nuseAbsolutePath: false\n")
    with pytest.warns(UserWarning) as caught:
        rc = RunConfiguration.load(str(tmp_path), "cpu")
    assert len(caught) == 1 and "'nodes' means nothing here" in str(caught[0].message)
    assert rc.auto_prepare_environment is False and rc.prepare_environment is False


def test_names_of_files(tmp_path, project):
    for name in (None, "", "a/b", 3):
        with pytest.raises(UserErrorException, match="name"):
            RunConfiguration().save(str(tmp_path), name)
    RunConfiguration().save(str(tmp_path), "one")
    with pytest.raises(UserErrorException, match="there are 'one'"):
        RunConfiguration.load(str(tmp_path), "two")
    with pytest.raises(UserErrorException, match="there are 'one'"):
        RunConfiguration.load(str(tmp_path))
    with pytest.raises(UserErrorException, match="path is of type int"):
        RunConfiguration.load(3)
    project("file", "")
    with pytest.raises(UserErrorException, match="cannot be written"):
        RunConfiguration().save(str(tmp_path / "file"), "a")
    (tmp_path / ".azureml" / "bytes.runconfig").write_bytes(b"\xff\xfe")
    with pytest.raises(UserErrorException, match="not UTF-8"):
        RunConfiguration.load(str(tmp_path), "bytes")


# YAML

@pytest.mark.parametrize("text, value", [
    ("a: 1\nb: 1.5\nc: true\nd: ~\ne:\nf: 'it''s # no'  # comment\n",
     {"a": 1, "b": 1.5, "c": True, "d": None, "e": None, "f": "it's # no"}),
    ('a: "x\\ty\\u00e9"\n', {"a": "x\ty\u00e9"}), ("a: x y\n  z\nb: 2\n", {"a": "x y z", "b": 2}),
    ('a: "x\n  y\\\n  z\n\n  w"\n', {"a": "x yz\nw"}), ("a: |\n  x\n   y\n\n  z\nb: 1\n", {"a": "x\n y\n\nz\n", "b": 1}),
    ("a: >-\n  x\n  y\n\n  z\n", {"a": "x y\nz"}), ("a: |-\n  x\n", {"a": "x"}),
    ("a: {b: [1, 'x, y', {c: d}], e: }\n", {"a": {"b": [1, "x, y", {"c": "d"}], "e": None}}), ("a: [b,\n  c]\n", {"a": ["b", "c"]}),
    ("a:\n- b: 1\n  c: 2\n- - x\n  - y\n-\n  d: 3\n-\n", {"a": [{"b": 1, "c": 2}, ["x", "y"], {"d": 3}, None]}),
    ("---\n# only\n", {}), ("", {}), ("a: http://x:80/#y\n", {"a": "http://x:80/#y"}), ("a: --x\n'b c': -1\n", {"a": "--x", "b c": -1}),
    ("a: 007\nb: 3.10.1\nc: 1e3\n", {"a": "007", "b": "3.10.1", "c": "1e3"}), ("a: b\r\nc:\r\n- d\r\n", {"a": "b", "c": ["d"]})])
def test_yaml_is_read(text, value):
    assert _yaml.parse(text, "the file") == value


@pytest.mark.parametrize("text, line", [
    ("a: &x 1\n", 1), ("a: *x\n", 1), ("a: !t 1\n", 1), ("a: 1\n b: 2\n", 2), ("a:\n  b: 1\n c: 2\n", 3), ("a: 'x\n", 1), ("a: [1\n", 1),
    ("a: [1] 2\n", 1), ("a: 'x' y\n", 1), ("a: b: c\n", 1), ("a: \"\\q\"\n", 1), ("a: {b}\n", 1), ("a: 1\n---\nb: 2\n", 2), ("\ta: 1\n", 1),
    ("a: %s1%s\n" % ("[" * 60, "]" * 60), 1), ("a: [1 2, ]]\n", 1)])
def test_what_is_refused_in_yaml(text, line):
    with pytest.raises(UserErrorException, match="the file cannot be read: line %d: " % line):
        _yaml.parse(text, "the file")


def test_yaml_there_and_back():
    texts = ["", "null", "yes", "No", "true", "1", "1.5", "1e3", "2020-01-01", "1:30", "0x1f", "-", "--lr", "- a", "a: b", "a #b", "#",
             "---", "~", ".inf", "=", "$A", "a:b", "key:", "None", "..", "./x", " x", "x ", "'", '"', "a'b", "? a", "!x", "two\nlines\n",
             "\t", "\x00\x85\u2028", "\U0001f600", "[a]", "{a}", "a, b", "@x", "`x", "%x", "&x", "*x", "|", ">", "C:\\x"]
    value = {"texts": texts, "numbers": [0, -1, 1.5, -2e-9, 1e30, float("inf"), float("-inf")], "others": [None, True, False, [], {}],
             "nested": [[["a"], {"b": {"c": [{"d": 1, "e": [2]}]}}]]}
    value.update({t: i for i, t in enumerate(texts)})
    assert _yaml.parse(_yaml.dump(value), "the file") == value
