"""What a later release brings is refused by its name; what only logs never ends a training."""
import subprocess
import sys

import pytest
from azureml.core import ScriptRunConfig
from azureml.core.run import Run
from azureml.exceptions import UserErrorException


# The tables of import paths that scripts and libraries use.
NAMES = {
    "azureml.core": "VERSION Workspace Experiment Run ScriptRunConfig Environment Dataset Datastore Model Webservice ComputeTarget "
                    "RunConfiguration Keyvault get_run Image ComputeInstance",
    "azureml.core.workspace": "Workspace", "azureml.core.experiment": "Experiment",
    "azureml.core.run": "Run _OfflineRun RUNNING_STATES", "azureml.core.script_run_config": "ScriptRunConfig",
    "azureml.core.datastore": "Datastore", "azureml.core.dataset": "Dataset",
    "azureml.core.environment": "Environment CondaDependencies DEFAULT_CPU_IMAGE DEFAULT_GPU_IMAGE DockerBuildContext",
    "azureml.core.conda_dependencies": "CondaDependencies TENSORFLOW_DEFAULT_VERSION",
    "azureml.core.container_registry": "ContainerRegistry",
    "azureml.core.runconfig": "RunConfiguration CondaDependencies MpiConfiguration TensorflowConfiguration PyTorchConfiguration "
                              "DataReferenceConfiguration DockerConfiguration EnvironmentDefinition DEFAULT_CPU_IMAGE "
                              "DEFAULT_GPU_IMAGE ContainerRegistry",
    "azureml.core.compute": "ComputeTarget AmlCompute RemoteCompute DsvmCompute AksCompute HDInsightCompute BatchAiCompute "
                            "ComputeInstance",
    "azureml.core.compute_target": "ComputeTargetException", "azureml.core.resource_configuration": "ResourceConfiguration",
    "azureml.core.model": "Model InferenceConfig", "azureml.core.image": "Image ContainerImage", "azureml.core.keyvault": "Keyvault",
    "azureml.core.webservice": "Webservice AciWebservice AksWebservice LocalWebservice AksEndpoint",
    "azureml.core.authentication": "InteractiveLoginAuthentication AzureCliAuthentication ServicePrincipalAuthentication "
                                   "MsiAuthentication TokenAuthentication Audience",
    "azureml.train.dnn": "PyTorch TensorFlow Chainer Mpi Gloo Nccl ParameterServer", "azureml.train.estimator": "Estimator",
    "azureml.train.sklearn": "SKLearn", "azureml.train.widgets": "RunDetails", "azureml.widgets": "RunDetails",
    "azureml.train.hyperdrive": "RandomParameterSampling GridParameterSampling BayesianParameterSampling choice randint uniform quniform "
                                "loguniform qloguniform normal qnormal lognormal qlognormal BanditPolicy MedianStoppingPolicy "
                                "TruncationSelectionPolicy NoTerminationPolicy HyperDriveConfig HyperDriveRunConfig HyperDriveRun "
                                "PrimaryMetricGoal",
    "azureml.train.hyperdrive.parameter_expressions": "choice", "azureml.train.hyperdrive.run": "PrimaryMetricGoal",
    "azureml.train.hyperdrive.runconfig": "HyperDriveConfig HyperDriveRunConfig",
    "azureml.train.hyperdrive.sampling": "RandomParameterSampling", "azureml.train.hyperdrive.policy": "BanditPolicy",
    "azureml.telemetry": "set_diagnostics_collection", "azureml.data": "OutputFileDatasetConfig FileDataset TabularDataset",
    "azureml.data.data_reference": "DataReference", "azureml.data.datapath": "DataPath DataPathComputeBinding",
    "azureml.data.azure_storage_datastore": "AzureBlobDatastore AzureFileDatastore",
    "azureml.data.dataset_consumption_config": "DatasetConsumptionConfig",
    "azureml.data.dataset_type_definitions": "PromoteHeadersBehavior",
    "azureml.exceptions": "ComputeTargetException WebserviceException UserErrorException ActivityFailedException "
                          "AuthenticationException DatasetTimestampMissingError",
    "azureml.exceptions._azureml_exception": "UserErrorException", "azureml.tensorboard": "Tensorboard",
    "azureml.tensorboard.export": "export_to_tensorboard", "azureml.contrib.tensorboard": "Tensorboard",
    "azureml.contrib.tensorboard.export": "export_to_tensorboard", "azureml.monitoring": "ModelDataCollector",
    "azureml.pipeline.core": "Pipeline PipelineData PipelineParameter PipelineRun StepRun",
    "azureml.pipeline.core.graph": "PipelineParameter", "azureml.pipeline.core.run": "PipelineRun",
    "azureml.pipeline.steps": "PythonScriptStep EstimatorStep",
    "azureml._restclient.constants": "RunStatus SNAPSHOT_MAX_SIZE_BYTES", "azureml._restclient.exceptions": "ServiceException",
    "azureml._restclient.snapshots_client": "SNAPSHOT_MAX_SIZE_BYTES", "azureml._run_impl.run_watcher": "RunWatcher",
    "azureml._base_sdk_common": "user_agent",
}


@pytest.mark.parametrize("module", sorted(NAMES))
def test_the_import_paths(module):
    for name in NAMES[module].split():
        scope = {}
        exec("from %s import %s" % (module, name), scope)
        assert scope[name] is not None


@pytest.mark.parametrize("module", sorted(NAMES))
def test_each_module_can_be_the_first_that_is_imported(module):
    subprocess.run([sys.executable, "-c", "import %s" % module], check=True, timeout=60)


def test_stars():
    scope = {}
    exec("from azureml.train.hyperdrive import *\nfrom azureml.train.estimator import *\nfrom azureml.core import *", scope)
    assert {"choice", "BanditPolicy", "Estimator", "Workspace"} <= set(scope)
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        exec("from azureml.core import Nonsense")


@pytest.mark.parametrize("program, words", [
    ("from azureml.core.model import Model\nModel.register(workspace=1, model_path='m', model_name='n')", "Model.register .*outputs/"),
    ("from azureml.core import Model\nModel(None, 'n')", "^Model "),
    ("from azureml.core.model import Model\nModel.Framework.SCIKITLEARN", "Model.Framework "),
    ("from azureml.core.model import InferenceConfig\nInferenceConfig(entry_script='score.py')", "InferenceConfig .a web service"),
    ("from azureml.core.webservice import AciWebservice\nAciWebservice.deploy_configuration(cpu_cores=1)", "deploy_configuration "),
    ("from azureml.core.image import ContainerImage\nContainerImage.image_configuration(runtime='python')", "image_configuration "),
    ("from azureml.train.hyperdrive import *\nRandomParameterSampling({'--lr': loguniform(-6, -1)})", "loguniform .*one run per choice"),
    ("from azureml.train.hyperdrive import PrimaryMetricGoal as p\np.MAXIMIZE", "PrimaryMetricGoal.MAXIMIZE"),
    ("from azureml.core import Dataset\nDataset.Tabular.from_delimited_files('x')", "Tabular.from_delimited_files .*pandas"),
    ("from azureml.pipeline.steps import PythonScriptStep\nPythonScriptStep(script_name='a.py')", "PythonScriptStep .a pipeline"),
    ("from azureml.tensorboard import Tensorboard\nTensorboard([])", "Tensorboard .*prefix='logs'"),
    ("from azureml.contrib.tensorboard.export import export_to_tensorboard\nexport_to_tensorboard(1, 'logs')", "export_to_tensorboard"),
    ("from azureml.data import dataset_type_definitions as d\nd.PromoteHeadersBehavior.NO_HEADERS", "PromoteHeadersBehavior.NO_HEADERS"),
    ("from azureml.data import OutputFileDatasetConfig\nOutputFileDatasetConfig(destination=1)", "OutputFileDatasetConfig")])
def test_first_use_says_what_to_do(program, words):
    with pytest.raises(UserErrorException, match=words) as caught:
        exec(program, {})
    assert "comes with a later release of Trainyard; " in str(caught.value)
    assert "%s.%s" % (caught.type.__module__, caught.type.__name__) == "azureml.exceptions._azureml_exception.UserErrorException"


def test_names_as_scripts_ask_about_them():
    from azureml.core import Model
    from azureml.train.hyperdrive import HyperDriveConfig

    assert not hasattr(Model, "register") and not isinstance(3, HyperDriveConfig) and "later release" in Model.__doc__
    assert repr(Model) == "<class 'azureml.core.model.Model'>"


def test_what_is_only_kept():
    from azureml._base_sdk_common import user_agent
    from azureml.core.resource_configuration import ResourceConfiguration

    user_agent.append("hi-ml", "1.0")
    assert user_agent.get_user_agent().endswith("hi-ml/1.0")
    assert ResourceConfiguration(cpu=1, memory_in_gb=0.5).memory_in_gb == 0.5


def test_methods_of_a_run(submit):
    run = submit("pass\n")
    with pytest.raises(UserErrorException, match="run.register_model comes with a later release"):
        run.register_model("m")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        run.nonsense
    assert not hasattr(run, "register_model")  # as scripts ask
    for name in ("model_id", "_get_outputs_datapath"):
        with pytest.raises(UserErrorException, match="run.%s comes with a later release" % name):
            getattr(run, name)
    with pytest.raises(UserErrorException, match="experiment.archive comes with a later release"):
        run.experiment.archive()
    with pytest.raises(AttributeError, match="'Experiment' object has no attribute 'nonsense'"):
        run.experiment.nonsense
    with pytest.raises(UserErrorException, match="pipeline_parameters: a pipeline comes with a later release"):
        run.experiment.submit(ScriptRunConfig("src"), pipeline_parameters={"a": 1})
    run.wait_for_completion()


def test_offline(capsys):
    Run.get_context().log_image("picture", path="x.png")
    assert "Attempted to log image picture" in capsys.readouterr().out


def test_names_of_metrics(submit):
    run = submit("""
from azureml.core.run import Run
from azureml.exceptions import UserErrorException
run = Run.get_context()
for name, why in ((5, "of type int; a text"), ("", "is empty"), (None, "of type NoneType")):
    try:
        run.log(name, 1)
    except UserErrorException as error:
        assert why in str(error), error
    else:
        raise AssertionError(name)
""")
    assert run.wait_for_completion()["status"] == "Completed"


def test_ctrl_c_while_waiting(submit, monkeypatch):
    from azureml.core import _run_wait
    from azureml.exceptions import ExperimentExecutionException

    def interrupted(*_):
        raise KeyboardInterrupt

    run = submit("pass\n")
    with monkeypatch.context() as patch:
        patch.setattr(_run_wait, "_follow", interrupted)
        with pytest.raises(ExperimentExecutionException, match="trainyard logs -f %s" % run.id):
            run.wait_for_completion(show_output=True)
    run.wait_for_completion()
