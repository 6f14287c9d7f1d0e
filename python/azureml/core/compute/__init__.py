"""ComputeTarget and AmlCompute."""
import os
from typing import TYPE_CHECKING, Any, Dict, List, Optional

from azureml.core._service import client, cloud_only, sdk_errors
from azureml.core.compute._others import AksCompute, ComputeInstance, DsvmCompute, HDInsightCompute, KubernetesCompute
from azureml.core.compute._remote import RemoteCompute, RemoteComputeAttachConfiguration
from azureml.core.compute_target import AmlComputeStatus, ComputeTarget
from azureml.exceptions import ComputeTargetException, UserErrorException

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace

__all__ = [
    "AksCompute", "AmlCompute", "AmlComputeProvisioningConfiguration", "AmlComputeStatus", "BatchAiCompute", "ComputeInstance",
    "ComputeTarget", "DsvmCompute", "HDInsightCompute", "KubernetesCompute", "RemoteCompute", "RemoteComputeAttachConfiguration",
]

DEFAULT_MAX_NODES = 4


class AmlCompute(ComputeTarget):
    """A cluster whose runs hold at most ``max_nodes`` nodes: logical ones of this box, or nodes of Slurm where the configuration or
    ``slurm`` says so."""

    @staticmethod
    def provisioning_configuration(vm_size: str = "", vm_priority: str = "dedicated", min_nodes: int = 0,
                                   max_nodes: Optional[int] = None, idle_seconds_before_scaledown: Any = None,
                                   admin_username: Any = None, admin_user_password: Any = None, admin_user_ssh_key: Any = None,
                                   vnet_resourcegroup_name: Any = None, vnet_name: Any = None, subnet_name: Any = None,
                                   tags: Optional[Dict[str, str]] = None, description: Optional[str] = None,
                                   remote_login_port_public_access: str = "NotSpecified", identity_type: Any = None,
                                   identity_id: Any = None, compute_location: Any = None, enable_node_public_ip: bool = True,
                                   require_gpu: bool = False, slurm: Optional[Dict[str, Any]] = None
                                   ) -> "AmlComputeProvisioningConfiguration":
        """What ``ComputeTarget.create`` needs. UserErrorException for a value of the wrong kind.

        vm_size: a label such as 'STANDARD_NC6'. max_nodes: nodes that its runs may hold at once (default 4). Trainyard's own:
        require_gpu, refuse use_gpu=True where no GPU is, instead of running on the CPU; slurm, what an allocation asks for, such as
        {'partition': 'gpu', 'gres': 'gpu:4'} (docs/targets.md), instead of what the service's configuration says; the SLURM_CONF of
        this process comes along, unless its 'environment' names another. Accounts, networks and identities mean something only in
        the cloud.
        """
        for name, given in (("admin_username", admin_username), ("admin_user_password", admin_user_password),
                            ("admin_user_ssh_key", admin_user_ssh_key), ("vnet_resourcegroup_name", vnet_resourcegroup_name),
                            ("vnet_name", vnet_name), ("subnet_name", subnet_name), ("identity_type", identity_type),
                            ("identity_id", identity_id), ("compute_location", compute_location)):
            cloud_only("provisioning_configuration: " + name, bool(given))
        return AmlComputeProvisioningConfiguration(vm_size, vm_priority, min_nodes, max_nodes, idle_seconds_before_scaledown, tags,
                                                   description, require_gpu, slurm)

    @staticmethod
    def supported_vmsizes(workspace: "Workspace", location: Optional[str] = None) -> List[Dict[str, Any]]:
        """What this box offers, as one size: name, vCPUs, gpus, memoryGB, maxResourceVolumeMB. Other labels are accepted."""
        with sdk_errors(ComputeTargetException):
            box = client().target("local")
        with open("/proc/meminfo", encoding="ascii") as file:
            memory = int(file.readline().split()[1]) / 2 ** 20
        return [{"name": "local", "vCPUs": box["cpus"], "gpus": box["gpus"], "memoryGB": round(memory, 1),
                 "maxResourceVolumeMB": 0}]

    def update(self, min_nodes: Optional[int] = None, max_nodes: Optional[int] = None,
               idle_seconds_before_scaledown: Any = None) -> None:
        """Change the scale settings; None leaves one as it is."""
        self.refresh_state()
        spec = dict(self._record["spec"])
        for key, value in (("min_nodes", min_nodes), ("max_nodes", max_nodes),
                           ("idle_seconds_before_scaledown", idle_seconds_before_scaledown)):
            if value is not None:
                spec[key] = _count(key, value)
        if max_nodes is not None and spec["max_nodes"] == 0:
            raise UserErrorException("AmlCompute.update: max_nodes is 0; a cluster has at least 1 node, and delete() removes it")
        with sdk_errors(ComputeTargetException, "AmlCompute.update: "):
            self._record = client().put_target(self.name, spec)


class BatchAiCompute(AmlCompute):
    """The older name of AmlCompute, with older words."""

    @staticmethod
    def provisioning_configuration(vm_size: str = "", autoscale_enabled: bool = True,  # type: ignore[override]
                                   cluster_min_nodes: Optional[int] = None, cluster_max_nodes: Optional[int] = None,
                                   vm_priority: str = "dedicated", **cloud: Any) -> "AmlComputeProvisioningConfiguration":
        """As that of AmlCompute. autoscale_enabled means something only in the cloud."""
        return AmlCompute.provisioning_configuration(vm_size, vm_priority, cluster_min_nodes or 0, cluster_max_nodes, **cloud)

    @staticmethod
    def attach(workspace: "Workspace", name: str, resource_id: Any = None, **_: Any) -> "ComputeTarget":  # type: ignore[override]
        """UserErrorException: a cluster of the Azure cloud cannot be had."""
        raise UserErrorException("BatchAiCompute.attach: '%s' is a cluster of the Azure cloud, which Trainyard cannot use; make one of "
                                 "your own: ComputeTarget.create(ws, '%s', AmlCompute.provisioning_configuration())" % (name, name))


class AmlComputeProvisioningConfiguration:
    """A cluster to be made; see ``AmlCompute.provisioning_configuration``."""

    def __init__(self, vm_size: str, vm_priority: str, min_nodes: int, max_nodes: Optional[int],
                 idle_seconds_before_scaledown: Any, tags: Optional[Dict[str, str]], description: Optional[str],
                 require_gpu: bool, slurm: Optional[Dict[str, Any]] = None) -> None:
        if not isinstance(vm_size or "", str):
            raise UserErrorException("provisioning_configuration: vm_size is of type %s; a text such as 'STANDARD_D2_V2' is needed"
                                     % type(vm_size).__name__)
        if str(vm_priority).lower() not in ("dedicated", "lowpriority"):
            raise UserErrorException("provisioning_configuration: vm_priority is '%s', and may be 'dedicated' or 'lowpriority'"
                                     % vm_priority)
        self.vm_size = vm_size or ""
        self.vm_priority = str(vm_priority).lower()
        self.min_nodes = _count("min_nodes", min_nodes or 0)
        self.max_nodes = _count("max_nodes", DEFAULT_MAX_NODES if max_nodes is None else max_nodes)
        # None: the service's default, which on Slurm keeps nothing; clusters are shared, and accounts pay for idle nodes.
        self.idle_seconds_before_scaledown = None if idle_seconds_before_scaledown is None else _count(
            "idle_seconds_before_scaledown", idle_seconds_before_scaledown)
        self.tags = tags
        self.description = description
        self.require_gpu = bool(require_gpu)
        if slurm is not None and not isinstance(slurm, dict):
            raise UserErrorException("provisioning_configuration: slurm is of type %s; a dictionary such as {'partition': 'gpu'} is needed"
                                     % type(slurm).__name__)
        self.slurm = slurm
        if self.max_nodes < max(1, self.min_nodes):
            raise UserErrorException("provisioning_configuration: max_nodes is %d; it is at least 1 and at least min_nodes (%d)"
                                     % (self.max_nodes, self.min_nodes))

    def _spec(self) -> Dict[str, Any]:
        kind = {} if self.slurm is None else {"kind": "slurm", **self.slurm}  # without one, the service's configuration decides
        if self.slurm is not None and os.environ.get("SLURM_CONF"):  # the cluster that this process means, as with `trainyard target add`
            kind["environment"] = {"SLURM_CONF": os.environ["SLURM_CONF"], **(self.slurm.get("environment") or {})}
        return {**kind, "vm_size": self.vm_size, "vm_priority": self.vm_priority, "min_nodes": self.min_nodes,
                "max_nodes": self.max_nodes, "idle_seconds_before_scaledown": self.idle_seconds_before_scaledown,
                "require_gpu": self.require_gpu, "description": self.description,
                "tags": None if self.tags is None else {str(k): str(v) for k, v in self.tags.items()}}


def _count(name: str, value: Any) -> int:
    """A number from 0 on; scripts also pass '300'."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < 0 or isinstance(value, bool) or (isinstance(value, float) and value != number):
        raise UserErrorException("%s is %r; a whole number from 0 on is needed" % (name, value))
    return number
