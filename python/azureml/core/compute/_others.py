"""Compute targets of the Azure cloud: their names import, and what makes one says what to use instead."""
from typing import TYPE_CHECKING, Any, Dict, NoReturn, Optional

from azureml.core.compute_target import ComputeTarget
from azureml.exceptions import ComputeTargetException, UserErrorException

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace

INSTEAD = ("use 'local' (this box), a cluster: ComputeTarget.create(ws, name, AmlCompute.provisioning_configuration()), or a machine of "
           "yours: ComputeTarget.attach(ws, name, RemoteCompute.attach_configuration(username, address))")


class OtherTarget(ComputeTarget):
    """A kind of target of which there is none: ``Kind(workspace, name)`` raises ComputeTargetException, as for an unknown name."""

    _what = "compute target of this kind"

    def _ask(self) -> Dict[str, Any]:
        raise ComputeTargetException("ComputeTargetNotFound: there is no %s '%s': Trainyard has no %s; %s"
                                     % (type(self).__name__, self.name, self._what, INSTEAD))

    @classmethod
    def _refuse(cls, method: str) -> NoReturn:
        raise UserErrorException("%s.%s: Trainyard has no %s; %s" % (cls.__name__, method, cls._what, INSTEAD))

    @classmethod
    def provisioning_configuration(cls, *_: Any, **__: Any) -> Any:
        """UserErrorException."""
        cls._refuse("provisioning_configuration")

    @classmethod
    def create(cls, workspace: "Workspace", name: str, *_: Any, **__: Any) -> "ComputeTarget":  # type: ignore[override]
        """UserErrorException."""
        cls._refuse("create")

    @classmethod
    def attach(cls, workspace: "Workspace", name: str, *_: Any, **__: Any) -> "ComputeTarget":  # type: ignore[override]
        """UserErrorException."""
        cls._refuse("attach")

    @classmethod
    def attach_configuration(cls, *_: Any, **__: Any) -> Any:
        """UserErrorException."""
        cls._refuse("attach_configuration")

    @classmethod
    def supported_vmsizes(cls, workspace: "Workspace", location: Optional[str] = None) -> Any:
        """UserErrorException."""
        cls._refuse("supported_vmsizes")


class DsvmCompute(OtherTarget):
    """A virtual machine of the Azure cloud."""

    _what = "machine of the Azure cloud"
    _compute_type = "VirtualMachine"


class HDInsightCompute(OtherTarget):
    """A Spark cluster of the Azure cloud."""

    _what = "Spark cluster"
    _compute_type = "HDInsight"


class AksCompute(OtherTarget):
    """A Kubernetes cluster for web services."""

    _what = "Kubernetes cluster"
    _compute_type = "AKS"

    class ClusterPurpose:
        """What a cluster is for."""

        FAST_PROD = "FastProd"
        DEV_TEST = "DevTest"


class KubernetesCompute(OtherTarget):
    """A Kubernetes cluster for runs."""

    _what = "Kubernetes cluster"
    _compute_type = "Kubernetes"


class ComputeInstance(OtherTarget):
    """A workstation of the Azure cloud."""

    _what = "workstation of the Azure cloud"
    _compute_type = "ComputeInstance"
