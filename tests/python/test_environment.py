"""Environment and CondaDependencies, the way notebooks use them, and the files of both."""
import json

import pytest

from azureml.core import Environment, Experiment, ScriptRunConfig, _packages, _service
from azureml.core._submit import specification
from azureml.core.conda_dependencies import TENSORFLOW_DEFAULT_VERSION, CondaDependencies
from azureml.core.environment import DEFAULT_GPU_IMAGE, DatabricksSection, SparkPackage
from azureml.core.runconfig import DockerConfiguration, EnvironmentDefinition
from azureml.exceptions import UserErrorException

# What the SDK's create() gives: the pip list may stand anywhere among the packages, and comments everywhere.
CLOUD_CONDA = """\
# What the environment has.

# More about it.


name: project_environment
dependencies:
  # Python itself.

- python=3.6.2

- pip:
    # Always there.

  - azureml-defaults
  - matplotlib==3.1
- scikit-learn
channels:
- conda-forge
"""


@pytest.fixture(autouse=True)
def source(project):
    project("proj/train.py", "")
    _service._warned.clear()


# CondaDependencies

def test_a_file_of_the_sdk_equals_what_was_asked_for(project, tmp_path):
    read = CondaDependencies(str(project("myenv.yml", CLOUD_CONDA)))
    made = CondaDependencies.create(conda_packages=["scikit-learn"], pip_packages=["azureml-defaults", "matplotlib==3.1"],
                                    python_version="3.6.2")
    assert read != made
    made.add_channel("conda-forge")
    assert read == made and read != CLOUD_CONDA and not read == None  # noqa: E711
    (tmp_path / "again.yml").write_text(made.serialize_to_string())
    assert CondaDependencies(conda_dependencies_file_path=str(tmp_path / "again.yml")) == read
    assert CondaDependencies(_underlying_structure=read.as_dict()) == read
    assert read.serialize_to_string() == ("name: project_environment\nchannels:\n- conda-forge\ndependencies:\n- python=3.6.2\n"
                                          "- scikit-learn\n- pip:\n  - azureml-defaults\n  - matplotlib==3.1\n")


def test_the_notebooks_cells(project, tmp_path):
    myenv = CondaDependencies()
    myenv.add_conda_package("numpy")
    myenv.add_pip_package("pynacl==1.2.1")
    myenv.add_channel("conda-forge")
    with open("myenv.yml", "w") as f:
        f.write(myenv.serialize_to_string())
    assert CondaDependencies("myenv.yml") == myenv
    project("work/x", "")
    conda_dep = CondaDependencies.create(pip_packages=["azureml-sdk", "tensorflow==1.13", "keras"], pin_sdk_version=False)
    assert conda_dep.save_to_file(base_directory="work", conda_file_path="conda.yml") == "conda.yml"
    assert CondaDependencies("work/conda.yml") == conda_dep
    assert CondaDependencies(myenv.save()) == CondaDependencies(myenv.save(str(tmp_path / "deep" / "x.yml"))) == myenv


def test_what_the_seed_documents_notebook_removes():
    made = CondaDependencies.create(conda_packages=["pytorch=0.4.0", "numpy"], pip_packages=["horovod==0.13.11", "pillow"])
    made.remove_conda_package("pytorch=0.4.0")
    made.remove_pip_package("horovod==0.13.11")
    made.remove_conda_package("pytorch=0.4.0")  # no longer there
    made.remove_pip_package("pillow==2")  # another one
    made.remove_pip_package("nothing")
    made.remove_channel("nothing")
    made.add_conda_package("pytorch-nightly")
    made.add_channel("pytorch")
    made.add_channel("pytorch")
    made.add_pip_package("horovod==0.15.2")
    assert made.as_dict() == {"name": "project_environment", "channels": ["pytorch"],
                              "dependencies": ["numpy", "pytorch-nightly", {"pip": ["pillow", "horovod==0.15.2"]}]}
    made.remove_pip_package("horovod")
    made.remove_channel("pytorch")
    assert list(made.pip_packages) == ["pillow"] and list(made.conda_channels) == []


def test_python_pip_options_and_tensorflow():
    made = CondaDependencies.create(pip_indexurl="https://index.example", python_version="3.6.2", pip_packages=["a"])
    made.set_python_version("3.7")
    assert made.get_python_version() == "3.7" and list(made.conda_packages) == ["python=3.7"]
    made.set_pip_option("--pre")
    made.set_pip_option("--index-url https://other.example")
    assert list(made.pip_options) == ["--pre", "--index-url https://other.example"]
    assert made.as_dict()["dependencies"][-1] == {"pip": ["--pre", "--index-url https://other.example", "a"]}
    made.remove_pip_option("--pre")
    made.add_tensorflow_conda_package()
    made.add_tensorflow_pip_package(core_type="gpu", version="1.13.1")
    assert "tensorflow=%s" % TENSORFLOW_DEFAULT_VERSION in made.conda_packages and "tensorflow-gpu==1.13.1" in made.pip_packages
    back = CondaDependencies(_underlying_structure=made.as_dict())
    assert back == made and list(back.pip_options) == ["--index-url https://other.example"]


@pytest.mark.parametrize("call, words", [
    (lambda c: c.add_pip_package("not a package"), "'not a package'"), (lambda c: c.add_conda_package(3), "of type int"),
    (lambda c: c.remove_pip_package(None), "NoneType"), (lambda c: c.set_pip_option("pre"), "'pre' is no option"),
    (lambda c: c.set_python_version("="), "set_python_version"), (lambda c: c.save("/nowhere/x/y.yml"), "cannot be written"),
    (lambda c: CondaDependencies(3), "of type int"), (lambda c: CondaDependencies("nowhere.yml"), "nowhere.yml"),
    (lambda c: CondaDependencies("."), "cannot be read")])
def test_what_is_refused(call, words, monkeypatch):
    monkeypatch.setattr("os.makedirs", lambda *_, **__: None)
    with pytest.raises(UserErrorException, match=words):
        call(CondaDependencies())


@pytest.mark.parametrize("item, words", [("-r more.txt", "'-r more.txt'.*more.txt' cannot be read"), ("--no-binary x", "'--no-binary x'.*not passed on"),
                                         ("-e .", "'-e .'.*list the packages"), ("./nowhere.whl", "'./nowhere.whl'.*no such file")])
def test_what_is_refused_at_submission(project, item, words):
    env = Environment.from_conda_specification("e", str(project("c.yml", "dependencies:\n- pip:\n  - %s\n" % item)))
    with pytest.raises(UserErrorException, match=words):
        specification(ScriptRunConfig("proj", environment=env))


def test_requirements_over_several_lines(project, tmp_path):
    project("more/b.txt", "tabulate # yes\n-f wheels\n-c pins.txt\n")
    project("more/pins.txt", "tabulate<1\n")
    env = Environment.from_pip_requirements("e", str(project("r.txt", (
        "numpy \\\n  >=1.0\n\n# no\n--index-url https://index.example/simple\nscipy  # yes\n-r more/b.txt\n"
        "tomli==1.0; python_version < '3.8'\ntomli==2.0 ; python_version >= '3.8'\n--pre\n"
        "x==1 \\\n    --hash=sha256:00 --hash sha256:11\ngit+https://x.example/y@v1#egg=y\n"))))
    assert list(env.python.conda_dependencies.pip_packages) == [
        "numpy    >=1.0", "scipy", "tabulate", "tomli==1.0; python_version < '3.8'", "tomli==2.0 ; python_version >= '3.8'", "x==1 --hash=sha256:00 --hash=sha256:11",
        "git+https://x.example/y@v1#egg=y"]
    pip = specification(ScriptRunConfig("proj", environment=env))["environment"]["pip"]
    assert pip.pop("packages") == list(env.python.conda_dependencies.pip_packages)
    assert pip == {"index_url": "https://index.example/simple", "find_links": [str(tmp_path / "more/wheels")], "constraints": ["tabulate<1"],
                   "pre": True}
    with pytest.raises(UserErrorException, match="b.txt' cannot be read"):
        Environment.from_pip_requirements("e", str(project("r.txt", "-r b.txt\n")))
    with pytest.raises(UserErrorException, match="reads itself, by way of '.*b.txt'"):
        project("b.txt", "-r r.txt\n")
        Environment.from_pip_requirements("e", str(tmp_path / "r.txt"))


def test_files_that_conda_files_name(project, tmp_path):
    """Beside the conda file, else in source_directory."""
    project("env/more.txt", "numpy\n--extra-index-url https://one.example\n")
    project("proj/wheel-1-py3-none-any.whl", "")
    env = Environment.from_conda_specification("e", str(project("env/c.yml", (
        "channels:\n- file:///channel\ndependencies:\n- python=3.6.2\n- zlib\n- pip:\n  - --extra-index-url https://two.example\n"
        "  - --requirement=more.txt\n  - --no-cache-dir\n  - wheel-1-py3-none-any.whl\n"))))
    spec = specification(ScriptRunConfig("proj", environment=env))
    assert spec["environment"] == {
        "name": "e", "python": "3.6.2", "conda": {"packages": ["zlib"], "channels": ["file:///channel"]},
        "pip": {"packages": [str(tmp_path / "proj/wheel-1-py3-none-any.whl"), "numpy"],
                "extra_index_urls": ["https://two.example", "https://one.example"]}}
    assert [w for w in spec["warnings"] if "--no-cache-dir" in w] and [w for w in spec["warnings"] if "asks for python=3.6.2" in w]


def test_passwords_of_indexes_are_in_no_record(project):
    env = Environment("e")
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=["tabulate"], pip_indexurl="https://me:secret@index.example/simple")
    spec = specification(ScriptRunConfig("proj", environment=env))
    assert spec["environment"]["pip"]["index_url"] == "https://me:secret@index.example/simple"
    assert "https://me:***@index.example/simple" in str(spec["azureml"]) and "secret" not in str(spec["azureml"])
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=["tabulate"], pip_indexurl="https://secret-token@index.example/simple")
    assert "https://***@index.example/simple" in str(specification(ScriptRunConfig("proj", environment=env))["azureml"])
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=["a @ https://secret:@h/a.whl", "b @ https://me:x@secret@h/b.whl"])
    shown = str(specification(ScriptRunConfig("proj", environment=env))["azureml"])
    assert "https://***@h/a.whl" in shown and "https://me:***@h/b.whl" in shown
    env.python.conda_dependencies.set_pip_option("--proxy http://me:secret@proxy")
    with pytest.raises(UserErrorException) as caught:
        specification(ScriptRunConfig("proj", environment=env))
    assert "secret" not in str(caught.value)


def test_torch_has_a_key_of_its_own(project):
    """It is used as a machine has it, or built as the machine needs it; so is torchvision."""
    env = Environment("e")
    env.python.conda_dependencies = CondaDependencies.create(
        conda_packages=["pytorch=1.0", "cpuonly"], pip_packages=["torchvision==0.2.1", "torch; python_version < '3'", "azureml-defaults"],
        python_version="3.11")
    made = specification(ScriptRunConfig("proj", environment=env))["environment"]
    assert made == {"name": "e", "torch": "1.0", "torchvision": "0.2.1", "python": "3.11", "conda": {"packages": ["cpuonly"]},
                    "pip": {"packages": ["torch; python_version < '3'", "azureml-defaults"]}}
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=["torch>=1.4,<2"], pip_indexurl="https://torch.example")
    made = specification(ScriptRunConfig("proj", environment=env))["environment"]
    assert (made["torch"], made["pip"]) == (">=1.4,<2", {"index_url": "https://torch.example"})


def test_commands_run_in_their_environment(project):
    env = Environment("e")
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=["tabulate"])
    spec = specification(ScriptRunConfig("proj", command=["python", "train.py", "--n", 1, "$HOME"], environment=env))
    assert spec["command"][0].startswith("/") and spec["command"][1:] == ["train.py", "--n", "1", "$HOME"] and spec["expand"] is True
    for command in ("python train.py | tee x", ["python", "train.py", "a b"], "python -c 'print(1)'"):
        spec = specification(ScriptRunConfig("proj", command=command, environment=env))
        assert spec["command"][:2] == ["/bin/sh", "-c"] and spec["command"][2].startswith("python3 ") and spec["expand"] is False
    env.docker.enabled, env.docker.base_image = True, "debian:12"
    env.python.conda_dependencies = CondaDependencies()
    assert specification(ScriptRunConfig("proj", command="python x.py", environment=env))["command"] == ["/bin/sh", "-c", "python x.py"]


# Images

def test_an_image_of_ones_own(project, workspace):
    env = Environment.from_docker_image("e", "pytorch/pytorch:1.13", conda_specification=str(project("c.yml", CLOUD_CONDA)))
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=["azureml-defaults", "horovod"], conda_packages=["pytorch"],
                                                             python_version="3.6")
    env.docker.arguments, env.docker.shm_size = ["--ulimit=core=0"], "8g"
    config = ScriptRunConfig("proj", environment=env, docker_runtime_config=DockerConfiguration(True, arguments=["--cpus=1"]))
    spec = specification(config)
    assert spec["environment"] == {"name": "e", "torch": "", "image": {
        "name": "pytorch/pytorch:1.13", "shm_size": "8g", "arguments": ["--ulimit=core=0", "--cpus=1"]}}
    assert spec["azureml"]["runDefinition"]["docker"]["useDocker"] is True and spec["interpreter_any"] is True
    env.docker.enabled = False  # on this box that is a word; on a cluster the image counts
    assert "image" not in specification(ScriptRunConfig("proj", environment=env))["environment"]
    assert "image" in specification(ScriptRunConfig("proj", environment=env, compute_target="cluster"))["environment"]
    env.docker.enabled, env.docker.base_image = True, "mcr.microsoft.com/azureml/intelmpi2018.3-ubuntu16.04"
    with pytest.warns(UserWarning, match="no container: Azure's own images"):
        assert "image" not in specification(ScriptRunConfig("proj", environment=env))["environment"]
    with pytest.raises(UserErrorException, match="base_dockerfile.*podman build"):
        specification(ScriptRunConfig("proj", environment=Environment.from_dockerfile("e", "FROM debian\n")))


def test_the_password_of_a_registry_is_a_secret(project, workspace):
    env = Environment("e")
    env.docker.enabled, env.docker.base_image = True, "team/image:1"
    registry = env.docker.base_image_registry
    registry.address, registry.username = "registry2.example", "me"
    env.python.user_managed_dependencies = True
    spec = specification(ScriptRunConfig("proj", environment=env))
    image = spec["environment"]["image"]
    assert (image["name"], image["user"]) == ("registry2.example/team/image:1", "me")
    with pytest.raises(UserErrorException, match="'me' and no password"):
        _packages.keep_password(env.docker)
    registry.password = "hunter2"
    _packages.keep_password(env.docker)
    assert workspace.get_default_keyvault().get_secret(image["password_secret"]) == "hunter2"
    assert "hunter2" not in str(specification(ScriptRunConfig("proj", environment=env)))
    registry.password = None
    _packages.keep_password(env.docker)  # as loaded from a file, which has no password
    workspace.get_default_keyvault().delete_secret(image["password_secret"])


# Environment

def test_the_cells_of_notebooks_with_environments(project):
    user_managed_env = Environment("user-managed-env")
    user_managed_env.python.user_managed_dependencies = True
    user_managed_env.python.interpreter_path = "/usr/bin/python3"
    assert specification(ScriptRunConfig("proj", environment=user_managed_env))["interpreter"] == "/usr/bin/python3"
    env = Environment(name="myenv")
    env.python.conda_dependencies = CondaDependencies.create(pip_packages=["azureml-defaults"])
    env.docker.enabled = True
    env.docker.base_image = DEFAULT_GPU_IMAGE
    env.docker.base_dockerfile = None
    env.docker.gpu_support, env.docker.shared_volumes, env.docker.shm_size = True, True, "8g"
    env.environment_variables = {"MESSAGE": "hello"}
    env.inferencing_stack_version = "latest"
    env.databricks.pypi_libraries.append("x")
    with pytest.warns(UserWarning, match="no container"):
        spec = specification(ScriptRunConfig("proj", environment=env))
    assert spec["environment_variables"] == {"MESSAGE": "hello"}
    assert spec["azureml"]["runDefinition"]["environment"]["inferencingStackVersion"] == "latest"
    assert EnvironmentDefinition is Environment and isinstance(env.databricks, DatabricksSection)


def test_constructors_from_files(project):
    conda, pip = str(project("c.yml", CLOUD_CONDA)), str(project("r.txt", "azureml-defaults\n"))
    env = Environment.from_conda_specification(name="e", file_path=conda)
    assert env.name == "e" and env.version is None and "scikit-learn" in env.python.conda_dependencies.conda_packages
    assert list(Environment.from_pip_requirements(name="e", file_path=pip).python.conda_dependencies.pip_packages) == ["azureml-defaults"]
    image = Environment.from_docker_image("e", "debian:12", conda_specification=conda)
    assert image.docker.base_image == "debian:12" and image.docker.enabled and not image.python.user_managed_dependencies
    docker = Environment.from_dockerfile("e", "FROM debian\n", pip_requirements=pip)
    assert docker.docker.base_dockerfile == "FROM debian\n" and docker.docker.base_image is None
    assert Environment.from_dockerfile("e", str(project("Dockerfile", "FROM x\n"))).docker.base_dockerfile == "FROM x\n"
    with pytest.raises(UserErrorException, match="both given"):
        Environment.from_docker_image("e", "x", None, conda, pip)


@pytest.mark.parametrize("call, words", [
    (lambda: Environment.from_existing_conda_environment("e", "mine"), "Name its interpreter.*envs/mine/bin/python"),
    (lambda: Environment.from_docker_build_context("e", None), "from_docker_build_context comes with a later release"),
    (lambda: Environment.get(None, "nobodys"), "no environment 'nobodys'"), (lambda: Environment.get(None, ""), "name is ''"),
    (lambda: Environment(3), "name is 3"), (lambda: Environment("e", nmae=1), "'nmae'"),
    (lambda: Environment("e").clone(""), "new_name"), (lambda: Environment.load_from_directory("nowhere"), "nowhere"),
    (lambda: Environment.from_conda_specification("e", "nowhere.yml"), "nowhere.yml")])
def test_environments_that_are_refused(call, words):
    with pytest.raises(UserErrorException, match=words):
        call()


def test_a_clone_is_a_copy():
    env = Environment("a")
    env.version = "3"
    copy = env.clone("b")
    copy.python.conda_dependencies.add_pip_package("x")
    copy.environment_variables["A"] = "1"
    assert (copy.name, copy.version, env.environment_variables) == ("b", None, {})
    assert list(env.python.conda_dependencies.pip_packages) == []


def test_a_directory_there_and_back(tmp_path):
    env = Environment("mine")
    env.python.conda_dependencies = CondaDependencies.create("https://index.example", ["a"], ["b"])
    env.docker.base_image, env.docker.base_dockerfile = None, "FROM x\nRUN y\n"
    env.docker.base_image_registry.password = "secret"
    env.spark.packages = [SparkPackage("g", "a", "1")]
    env.environment_variables = {"A": "1"}
    place = tmp_path / "kept"
    env.save_to_directory(str(place))
    values = json.loads((place / "azureml_environment.json").read_text())
    assert values["name"] == "mine" and values["docker"]["baseImageRegistry"]["password"] is None and "legacyAliases" not in values
    assert values["spark"]["packages"] == [{"group": "g", "artifact": "a", "version": "1"}]
    back = Environment.load_from_directory(str(place))
    assert back.python.conda_dependencies == env.python.conda_dependencies
    assert (back.docker.base_image, back.docker.base_dockerfile, back.environment_variables) == (None, "FROM x\nRUN y\n", {"A": "1"})
    with pytest.raises(UserErrorException, match="exists already"):
        env.save_to_directory(str(place))
    env.python.conda_dependencies, env.docker.base_dockerfile, env.legacy_aliases = None, None, True
    env.save_to_directory(str(place), overwrite=True)
    back = Environment.load_from_directory(path=str(place))
    assert back.python.conda_dependencies is None and back.docker.base_dockerfile is None and back.legacy_aliases is True


def test_a_definition_of_the_sdk(project, tmp_path):
    project("d/azureml_environment.json", json.dumps({
        "name": "AzureML-Tutorial", "version": "1", "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}, "assetId": "x",
        "python": {"userManagedDependencies": False, "interpreterPath": "python", "condaDependenciesFile": None,
                   "baseCondaEnvironment": None, "condaDependencies": {
                       "channels": ["conda-forge"], "name": "azureml_123", "dependencies": ["python=3.6.2", {"pip": ["azureml-core"]}]}},
        "docker": {"enabled": False, "baseImage": "x", "baseDockerfile": None, "sharedVolumes": True, "shmSize": None, "arguments": [],
                   "platform": {"os": "Linux", "architecture": "amd64"},
                   "baseImageRegistry": {"address": None, "username": None, "password": None, "registryIdentity": None}},
        "spark": {"repositories": [], "packages": [], "precachePackages": True}, "inferencingStackVersion": None}))
    env = Environment.load_from_directory(str(tmp_path / "d"))
    assert (env.name, env.version, list(env.python.conda_dependencies.pip_packages)) == ("AzureML-Tutorial", "1", ["azureml-core"])
    project("d/conda_dependencies.yml", "dependencies:\n- edited\n")
    edited = Environment.load_from_directory(str(tmp_path / "d")).python.conda_dependencies
    assert list(edited.conda_packages) == ["edited"]
    project("d/azureml_environment.json", "{")
    with pytest.raises(UserErrorException, match="azureml_environment.json' is not valid JSON"):
        Environment.load_from_directory(str(tmp_path / "d"))


def test_a_curated_environment_is_the_interpreter_that_has_torch(project, workspace):
    """As the notebooks have it: get it by name, clone it or add to it, and run with it."""
    project("proj/train.py", "import torch\nprint('torch', torch.__version__.split('.')[0])\n")
    env = Environment.get(workspace=workspace, name="AzureML-PyTorch-1.6-GPU")
    assert (env.name, env.version) == ("AzureML-PyTorch-1.6-GPU", "1")
    assert "AzureML-Tutorial" in [name for name in Environment.list(workspace=workspace) if name.startswith("AzureML")]
    assert Environment.get(workspace, "AzureML-Tutorial", version="4").version == "4"
    src = ScriptRunConfig(source_directory="proj", script="train.py", environment=env, compute_target="local")
    run = Experiment(workspace, "curated").submit(src)
    assert run.wait_for_completion(show_output=False)["status"] == "Completed"
    details = run.get_details()
    assert details["runDefinition"]["environment"]["name"] == "AzureML-PyTorch-1.6-GPU"
    warnings = [w["message"] for w in details.get("warnings", [])]
    assert len(warnings) == len(set(warnings)), warnings
