"""Workspace, Experiment, Run and what describes a run: the names that scripts import from ``azureml.core``."""
from azureml.core._later import later_names
from azureml.core._version import VERSION
from azureml.core.compute import ComputeInstance, KubernetesCompute
from azureml.core.compute_target import ComputeTarget
from azureml.core.dataset import Dataset
from azureml.core.datastore import Datastore
from azureml.core.environment import Environment
from azureml.core.experiment import Experiment
from azureml.core.image import Image
from azureml.core.keyvault import Keyvault
from azureml.core.model import Model
from azureml.core.run import Run, get_run
from azureml.core.runconfig import RunConfiguration
from azureml.core.script_run_config import ScriptRunConfig
from azureml.core.webservice import Webservice
from azureml.core.workspace import Workspace

__version__ = VERSION

(LinkedService, PrivateEndPointConfig) = later_names(
    __name__, "LinkedService PrivateEndPointConfig",
    "a service of the Azure cloud", "leave it out")

__all__ = [
    "VERSION", "ComputeInstance", "ComputeTarget", "Dataset", "Datastore", "Environment", "Experiment", "Image", "Keyvault",
    "KubernetesCompute", "LinkedService", "Model", "PrivateEndPointConfig", "Run", "RunConfiguration", "ScriptRunConfig", "Webservice",
    "Workspace", "get_run",
]
