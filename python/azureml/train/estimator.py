"""Estimator: a script and how it runs, in one object."""
from typing import Any, Dict, List, Optional

from azureml.train._estimator import EstimatorBase

__all__ = ["Estimator"]


class Estimator(EstimatorBase):
    """A script of ``source_directory`` and how it runs; submit it with ``Experiment.submit``.

    source_directory: folder whose snapshot becomes the working directory. compute_target: a target, its name, or 'local'
    (default). entry_script: path in source_directory. script_params: flag -> value, in order; '' gives a bare flag; a Datastore or
    DataReference, or a dataset (``as_named_input``), becomes a directory; ``$NAME`` is expanded on the worker. inputs: DataReferences
    and datasets that no argument names.
    use_gpu: the script wants a GPU; without one it runs on the CPU, with a warning. conda_packages, pip_packages, files of them
    (conda_dependencies_file[_path], pip_requirements_file[_path], in source_directory): what the run's interpreter has is
    used, anything else is installed for the run, once on each machine. user_managed: install and check nothing. environment_variables:
    of the script. custom_docker_image (or custom_docker_base_image), image_registry_details, shm_size, use_docker: an image that holds
    all that the script needs; Azure's own images stand for none.
    environment_definition: an Environment, given instead of the other environment parameters. resume_from: a DataPath, passed as
    ``--resume-from <directory>``. max_run_duration_seconds: the run is canceled after it.

    node_count, process_count_per_node: how many nodes, and processes on each; above 1 they need distributed_backend ('mpi', 'gloo' or
    'nccl') or distributed_training (an MpiConfiguration or PyTorchConfiguration, or one of Mpi, Gloo, Nccl of azureml.train.dnn, whose
    own count wins). horovod.torch, mpi4py and torch.distributed work with each; parameter servers are refused by name. vm_size, vm_priority
    and source_directory_data_store mean something only in the cloud.

    UserErrorException for values of the wrong kind and for what contradicts itself.
    """

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
                 resume_from: Any = None, max_run_duration_seconds: Optional[int] = None, _disable_validation: bool = True,
                 _show_lint_warnings: bool = False, _show_package_warnings: bool = False) -> None:
        given = dict(locals())
        del given["self"]
        self._set(given.pop("source_directory"), given)
