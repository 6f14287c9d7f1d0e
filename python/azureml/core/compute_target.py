"""Compute targets: where runs run.

``local`` is this box and always exists. A cluster that is created here is a logical one: at most ``max_nodes`` of its runs go
on at once, on this box.
"""
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from azureml.core._service import client, sdk_errors
from azureml.exceptions import ComputeTargetException, UserErrorException
from trainyard import errors

if TYPE_CHECKING:
    from azureml.core.run import Run
    from azureml.core.workspace import Workspace

__all__ = ["ComputeTarget", "ComputeTargetException"]


class ComputeTarget:
    """A compute target that exists. ``ComputeTarget(workspace, name)`` raises ComputeTargetException for an unknown name."""

    _compute_type = "AmlCompute"

    def __new__(cls, workspace: Any = None, name: Any = None, **_: Any) -> "ComputeTarget":
        from azureml.core.compute import AmlCompute

        return super().__new__(AmlCompute if cls is ComputeTarget else cls)

    def __init__(self, workspace: "Workspace", name: str, _record: Optional[Dict[str, Any]] = None) -> None:
        if not isinstance(name, str):
            raise UserErrorException("ComputeTarget: name is of type %s; a text is needed" % type(name).__name__)
        self.workspace = workspace
        self.name = name
        self._record = _record or self._ask()

    def _ask(self) -> Dict[str, Any]:
        try:
            with sdk_errors(ComputeTargetException):
                return client().target(self.name)
        except ComputeTargetException as error:
            if isinstance(error.inner_exception, errors.NotFound):
                raise ComputeTargetException("ComputeTargetNotFound: there is no compute target '%s'; ComputeTarget.create makes "
                                             "one, and 'local' is this box" % self.name, error.inner_exception) from None
            raise

    @staticmethod
    def create(workspace: "Workspace", name: str, provisioning_configuration: Any) -> "ComputeTarget":
        """Make a compute target, which is ready at once. ComputeTargetException when the name is taken or cannot be one."""
        from azureml.core.compute import AmlComputeProvisioningConfiguration

        if not isinstance(provisioning_configuration, AmlComputeProvisioningConfiguration):
            raise UserErrorException("ComputeTarget.create: provisioning_configuration is of type %s; this release makes "
                                     "AmlCompute targets: give AmlCompute.provisioning_configuration(...)"
                                     % type(provisioning_configuration).__name__)
        if name in {t.name for t in ComputeTarget.list(workspace)}:
            raise ComputeTargetException("there is a compute target '%s' already; ComputeTarget(workspace, '%s') gives it, and its "
                                         "update() changes it" % (name, name))
        with sdk_errors(ComputeTargetException, "ComputeTarget.create: "):
            record = client().put_target(str(name), provisioning_configuration._spec())
        return ComputeTarget(workspace, str(name), _record=record)

    @staticmethod
    def attach(workspace: "Workspace", name: str, attach_configuration: Any = None, **kwargs: Any) -> "ComputeTarget":
        """Other machines come with a later release: UserErrorException."""
        raise UserErrorException("ComputeTarget.attach: '%s' is another machine; those come with a later release of Trainyard. Use "
                                 "'local' (this box) or ComputeTarget.create meanwhile" % name)

    @staticmethod
    def list(workspace: "Workspace") -> "List[ComputeTarget]":
        """All compute targets."""
        with sdk_errors(ComputeTargetException):
            return [ComputeTarget(workspace, t["name"], _record=t) for t in client().targets()]

    @property
    def type(self) -> str:
        """'AmlCompute', or 'local' for this box itself."""
        return "local" if self.name == "local" else self._compute_type

    @property
    def id(self) -> str:
        """A path that names the target in its workspace."""
        return "%s/computes/%s" % (self.workspace.get_details()["id"], self.name)

    @property
    def location(self) -> str:
        """Where the workspace is: 'local'."""
        return self.workspace.location

    @property
    def tags(self) -> Optional[Dict[str, str]]:
        """Tags that were given when it was made."""
        return self._record["spec"].get("tags")

    @property
    def description(self) -> Optional[str]:
        """The text that was given when it was made."""
        return self._record["spec"].get("description")

    @property
    def provisioning_state(self) -> str:
        """'Succeeded': a target is ready as soon as it exists."""
        return "Succeeded"

    @property
    def provisioning_errors(self) -> "List[Any]":
        """Always empty, see provisioning_state."""
        return []

    @property
    def vm_size(self) -> str:
        """The label that was given."""
        return str(self._record["spec"].get("vm_size") or "")

    @property
    def status(self) -> "AmlComputeStatus":
        """The status as it was last asked for; get_status() asks again."""
        return AmlComputeStatus(self._record)

    def get_status(self) -> "AmlComputeStatus":
        """Ask the service for the present status."""
        self.refresh_state()
        return self.status

    def refresh_state(self) -> None:
        """Ask the service again for what the attributes show."""
        self._record = self._ask()

    def wait_for_completion(self, show_output: bool = False, min_node_count: Optional[int] = None,
                            timeout_in_minutes: float = 25, is_delete_operation: bool = False) -> None:
        """Returns at once: a target is ready as soon as it exists, and gone as soon as it is deleted.

        show_output: print what notebooks show. is_delete_operation: ComputeTargetException when it is there.
        """
        if is_delete_operation:
            if any(t.name == self.name for t in ComputeTarget.list(self.workspace)):
                raise ComputeTargetException("the compute target '%s' is there; its delete() removes it" % self.name)
            return
        self.refresh_state()
        if show_output:
            print("Succeeded")
            print("AmlCompute wait for completion finished\n")
            print("Minimum number of nodes requested have been provisioned")

    def get_active_runs(self, type: Optional[str] = None, tags: Any = None, properties: Any = None,  # noqa: A002
                        status: Any = None) -> "Iterator[Run]":
        """Its runs that have not ended, newest first; `type` as of Run.type, tags and properties as in Experiment.get_runs, status: a
        state or several."""
        from azureml.core._run_family import matches
        from azureml.core.run import get_run

        wanted = None if status is None else {status} if isinstance(status, str) else set(status)
        with sdk_errors(ComputeTargetException):
            records = list(client().runs(state="active", target=self.name))
        for record in records:
            run = get_run(None, record["id"], workspace=self.workspace)
            if (type in (None, run.type) and (wanted is None or record["state"] in wanted) and matches(record["tags"], tags)
                    and matches(record["properties"], properties)):
                yield run

    def serialize(self) -> Dict[str, Any]:
        """The target as a dictionary."""
        return {"id": self.id, "name": self.name, "location": self.location, "type": self.type, "tags": self.tags,
                "description": self.description, "provisioningState": self.provisioning_state,
                "provisioningErrors": None, "properties": {"status": self.status.serialize(), "vmSize": self.vm_size}}

    def delete(self) -> None:
        """Remove the target; ComputeTargetException while runs use it, and for 'local'."""
        with sdk_errors(ComputeTargetException, "cannot delete the compute target '%s': " % self.name):
            client().delete_target(self.name)

    detach = delete

    def __repr__(self) -> str:
        return "%s(workspace=%r, name=%s, type=%s, provisioning_state=%s)" % (
            type(self).__name__, self.workspace, self.name, self.type, self.provisioning_state)


class AmlComputeStatus:
    """How a target is: attributes in snake_case, ``serialize()`` in the cloud's words."""

    def __init__(self, record: Dict[str, Any]) -> None:
        spec, nodes = record["spec"], record["nodes"]
        self.current_node_count: int = nodes["running"] + nodes["idle"]
        self.target_node_count: int = self.current_node_count
        self.vm_size: str = spec.get("vm_size") or ""
        self.vm_priority: str = {"lowpriority": "LowPriority"}.get(spec.get("vm_priority") or "", "Dedicated")
        self.allocation_state = "Steady"  # from the start on: nodes of this box need not be allocated
        self.provisioning_state = "Succeeded"
        self.creation_time: Optional[str] = record.get("created")
        self.allocation_state_transition_time = self.provisioning_state_transition_time = self.creation_time
        self.modified_time: Optional[str] = None  # the service does not keep it
        self.errors: Optional[List[Any]] = None
        self.node_state_counts = {"preparingNodeCount": 0, "runningNodeCount": nodes["running"], "idleNodeCount": nodes["idle"],
                                  "unusableNodeCount": 0, "leavingNodeCount": 0, "preemptedNodeCount": 0}
        idle = spec.get("idle_seconds_before_scaledown")
        self.scale_settings = {"minNodeCount": spec.get("min_nodes") or 0, "maxNodeCount": nodes["max"],
                               "nodeIdleTimeBeforeScaleDown": "PT%dS" % (1800 if idle is None else idle)}

    def serialize(self) -> Dict[str, Any]:
        """The keys that notebooks print."""
        return {"currentNodeCount": self.current_node_count, "targetNodeCount": self.target_node_count,
                "nodeStateCounts": dict(self.node_state_counts), "allocationState": self.allocation_state,
                "allocationStateTransitionTime": self.allocation_state_transition_time, "errors": self.errors,
                "creationTime": self.creation_time, "modifiedTime": self.modified_time,
                "provisioningState": self.provisioning_state, "provisioningStateTransitionTime": self.creation_time,
                "scaleSettings": dict(self.scale_settings), "vmPriority": self.vm_priority, "vmSize": self.vm_size}

    def __repr__(self) -> str:
        return "AmlComputeStatus(%r)" % self.serialize()
