"""Workspace, Experiment, Run and what describes a run: the names that scripts import from ``azureml.core``."""
from azureml.core._service import later_module
from azureml.core._version import VERSION
from azureml.core.compute_target import ComputeTarget
from azureml.core.datastore import Datastore
from azureml.core.environment import Environment
from azureml.core.experiment import Experiment
from azureml.core.run import Run, get_run
from azureml.core.runconfig import RunConfiguration
from azureml.core.script_run_config import ScriptRunConfig
from azureml.core.workspace import Workspace

__version__ = VERSION

_LATER = frozenset({"Dataset", "Model", "Image", "Webservice", "Keyvault", "LinkedService", "PrivateEndPointConfig",
                    "ComputeInstance", "KubernetesCompute"})


def __getattr__(name: str) -> object:
    if name in _LATER:
        raise later_module("azureml.core." + name)
    raise AttributeError("module 'azureml.core' has no attribute '%s'" % name)


__all__ = [
    "VERSION", "ComputeTarget", "Datastore", "Environment", "Experiment", "Run", "RunConfiguration", "ScriptRunConfig",
    "Workspace", "get_run",
]
