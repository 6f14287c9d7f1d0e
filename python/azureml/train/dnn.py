"""PyTorch, TensorFlow and Chainer: the estimators of scripts that use them; and the words for how several processes work together."""
from typing import Any, Dict, List, Optional

from azureml.core.runconfig import positive
from azureml.train._estimator import EstimatorBase

__all__ = ["Chainer", "Gloo", "Mpi", "Nccl", "ParameterServer", "PyTorch", "TensorFlow"]


class Mpi:
    """Processes that MPI joins, `process_count_per_node` on each node: for horovod.torch and mpi4py, and torch.distributed too."""

    def __init__(self, process_count_per_node: int = 1) -> None:
        self.process_count_per_node = positive(process_count_per_node, "Mpi: process_count_per_node")


class Gloo:
    """Processes that torch.distributed joins over Gloo; the estimator says how many."""

    def __init__(self) -> None:
        """There is nothing to say."""


class Nccl:
    """Processes that torch.distributed joins over NCCL; the estimator says how many."""

    def __init__(self) -> None:
        """There is nothing to say."""


class ParameterServer:
    """Workers and parameter servers of TensorFlow. An estimator refuses it: Trainyard has no parameter servers."""

    def __init__(self, worker_count: int = 1, parameter_server_count: int = 1) -> None:
        self.worker_count = positive(worker_count, "ParameterServer: worker_count")
        self.parameter_server_count = positive(parameter_server_count, "ParameterServer: parameter_server_count")


class PyTorch(EstimatorBase):
    """An Estimator whose environment has torch; the parameters are those of azureml.train.estimator.Estimator, and

    framework_version: the version of torch that is asked for: the one that the machine has, else one that is built there, for the GPU
        with use_gpu, else the nearest that it has, with a warning.
    """

    _framework = "torch"
    _needs_torch = True

    def __init__(self, source_directory: str, *, compute_target: Any = None, vm_size: Optional[str] = None,
                 vm_priority: Optional[str] = None, entry_script: Optional[str] = None,
                 script_params: Optional[Dict[str, Any]] = None, node_count: int = 1, process_count_per_node: int = 1,
                 distributed_backend: Optional[str] = None, distributed_training: Any = None, use_gpu: bool = False,
                 use_docker: bool = True, custom_docker_base_image: Optional[str] = None,
                 custom_docker_image: Optional[str] = None, image_registry_details: Any = None, user_managed: bool = False,
                 conda_packages: Optional[List[str]] = None, pip_packages: Optional[List[str]] = None,
                 conda_dependencies_file_path: Optional[str] = None, pip_requirements_file_path: Optional[str] = None,
                 conda_dependencies_file: Optional[str] = None, pip_requirements_file: Optional[str] = None,
                 environment_variables: Optional[Dict[str, Any]] = None, environment_definition: Any = None,
                 inputs: Optional[List[Any]] = None, source_directory_data_store: Any = None, shm_size: Optional[str] = None,
                 resume_from: Any = None, max_run_duration_seconds: Optional[int] = None, framework_version: Optional[str] = None,
                 _enable_optimized_mode: bool = False, _disable_validation: bool = True, _show_lint_warnings: bool = False,
                 _show_package_warnings: bool = False) -> None:
        given = dict(locals())
        del given["self"]
        self._set(given.pop("source_directory"), given)


class TensorFlow(EstimatorBase):
    """An Estimator that asks for the package tensorflow; the parameters are those of azureml.train.estimator.Estimator, and

    framework_version: the version of tensorflow that is asked for; the run uses the one that is there, with a warning when it
    differs; where there is none, that version is installed for it. worker_count, parameter_server_count: parameter servers, and with them other counts than 1, are refused by name.
    """

    _framework = "tensorflow"

    def __init__(self, source_directory: str, *, compute_target: Any = None, vm_size: Optional[str] = None,
                 vm_priority: Optional[str] = None, entry_script: Optional[str] = None,
                 script_params: Optional[Dict[str, Any]] = None, node_count: int = 1, process_count_per_node: int = 1,
                 worker_count: int = 1, parameter_server_count: int = 1,
                 distributed_backend: Optional[str] = None, distributed_training: Any = None, use_gpu: bool = False,
                 use_docker: bool = True, custom_docker_base_image: Optional[str] = None,
                 custom_docker_image: Optional[str] = None, image_registry_details: Any = None, user_managed: bool = False,
                 conda_packages: Optional[List[str]] = None, pip_packages: Optional[List[str]] = None,
                 conda_dependencies_file_path: Optional[str] = None, pip_requirements_file_path: Optional[str] = None,
                 conda_dependencies_file: Optional[str] = None, pip_requirements_file: Optional[str] = None,
                 environment_variables: Optional[Dict[str, Any]] = None, environment_definition: Any = None,
                 inputs: Optional[List[Any]] = None, source_directory_data_store: Any = None, shm_size: Optional[str] = None,
                 resume_from: Any = None, max_run_duration_seconds: Optional[int] = None, framework_version: Optional[str] = None,
                 _enable_optimized_mode: bool = False, _disable_validation: bool = True, _show_lint_warnings: bool = False,
                 _show_package_warnings: bool = False) -> None:
        given = dict(locals())
        del given["self"]
        self._set(given.pop("source_directory"), given)


class Chainer(EstimatorBase):
    """An Estimator that asks for the package chainer; the parameters are those of azureml.train.estimator.Estimator, and

    framework_version: the version of chainer that is asked for; the run uses the one that is there, with a warning when it differs;
        where there is none, that version is installed for it.
    """

    _framework = "chainer"

    def __init__(self, source_directory: str, *, compute_target: Any = None, vm_size: Optional[str] = None,
                 vm_priority: Optional[str] = None, entry_script: Optional[str] = None,
                 script_params: Optional[Dict[str, Any]] = None, node_count: int = 1, process_count_per_node: int = 1,
                 distributed_backend: Optional[str] = None, distributed_training: Any = None, use_gpu: bool = False,
                 use_docker: bool = True, custom_docker_base_image: Optional[str] = None,
                 custom_docker_image: Optional[str] = None, image_registry_details: Any = None, user_managed: bool = False,
                 conda_packages: Optional[List[str]] = None, pip_packages: Optional[List[str]] = None,
                 conda_dependencies_file_path: Optional[str] = None, pip_requirements_file_path: Optional[str] = None,
                 conda_dependencies_file: Optional[str] = None, pip_requirements_file: Optional[str] = None,
                 environment_variables: Optional[Dict[str, Any]] = None, environment_definition: Any = None,
                 inputs: Optional[List[Any]] = None, source_directory_data_store: Any = None, shm_size: Optional[str] = None,
                 resume_from: Any = None, max_run_duration_seconds: Optional[int] = None, framework_version: Optional[str] = None,
                 _enable_optimized_mode: bool = False, _disable_validation: bool = True, _show_lint_warnings: bool = False,
                 _show_package_warnings: bool = False) -> None:
        given = dict(locals())
        del given["self"]
        self._set(given.pop("source_directory"), given)
