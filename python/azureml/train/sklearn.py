"""SKLearn: the estimator of scripts that use scikit-learn."""
from typing import Any, Dict, List, Optional

from azureml.train._estimator import EstimatorBase

__all__ = ["SKLearn"]


class SKLearn(EstimatorBase):
    """An Estimator of one process that asks for the package scikit-learn; the parameters are those of

    azureml.train.estimator.Estimator, but for the ones of several processes and GPUs, and framework_version: the version of
    scikit-learn that is asked for; the run uses the one that is there, with a warning when it differs.
    """

    _framework = "scikit-learn"

    def __init__(self, source_directory: str, *, compute_target: Any = None, vm_size: Optional[str] = None,
                 vm_priority: Optional[str] = None, entry_script: Optional[str] = None,
                 script_params: Optional[Dict[str, Any]] = None, use_docker: bool = True,
                 custom_docker_base_image: Optional[str] = None, custom_docker_image: Optional[str] = None,
                 image_registry_details: Any = None, user_managed: bool = False, conda_packages: Optional[List[str]] = None,
                 pip_packages: Optional[List[str]] = None, conda_dependencies_file_path: Optional[str] = None,
                 pip_requirements_file_path: Optional[str] = None, conda_dependencies_file: Optional[str] = None,
                 pip_requirements_file: Optional[str] = None, environment_variables: Optional[Dict[str, Any]] = None,
                 environment_definition: Any = None, inputs: Optional[List[Any]] = None, source_directory_data_store: Any = None,
                 shm_size: Optional[str] = None, resume_from: Any = None, max_run_duration_seconds: Optional[int] = None,
                 framework_version: Optional[str] = None, _enable_optimized_mode: bool = False, _disable_validation: bool = True,
                 _show_lint_warnings: bool = False, _show_package_warnings: bool = False) -> None:
        given = dict(locals())
        del given["self"]
        given.update(node_count=1, process_count_per_node=1, distributed_backend=None, distributed_training=None, use_gpu=False)
        self._set(given.pop("source_directory"), given)
