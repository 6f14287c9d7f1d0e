"""Compute targets: where runs run.

``local`` is this box and always exists. A cluster that is created has ``max_nodes`` nodes: logical ones of this box, or, where the
service's configuration names a Slurm partition, nodes of that. Other machines are attached, see RemoteCompute.
"""
import time
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Optional

from azureml.core._service import client, sdk_errors
from azureml.exceptions import ComputeTargetException, UserErrorException
from trainyard import errors

if TYPE_CHECKING:
    from azureml.core.run import Run
    from azureml.core.workspace import Workspace

__all__ = ["ComputeTarget", "ComputeTargetException"]

POLL_SECONDS = 0.5
STATES = ("preparing", "running", "idle", "unusable", "leaving", "preempted")


class ComputeTarget:
    """A compute target that exists. ``ComputeTarget(workspace, name)`` raises ComputeTargetException for an unknown name."""

    _compute_type = "AmlCompute"
    _record: Dict[str, Any]

    def __new__(cls, workspace: Any = None, name: Any = None, _record: Optional[Dict[str, Any]] = None, **_: Any) -> "ComputeTarget":
        """ComputeTarget itself becomes the class of the target's kind."""
        if cls is not ComputeTarget or not isinstance(name, str):
            return super().__new__(cls)
        from azureml.core.compute import AmlCompute, RemoteCompute

        record = _record or _ask(name)
        made = super().__new__(RemoteCompute if record["spec"]["kind"] == "hosts" else AmlCompute)
        made._record = record
        return made

    def __init__(self, workspace: "Workspace", name: str, _record: Optional[Dict[str, Any]] = None) -> None:
        if not isinstance(name, str):
            raise UserErrorException("ComputeTarget: name is of type %s; a text is needed" % type(name).__name__)
        self.workspace = workspace
        self.name = name
        if not hasattr(self, "_record"):
            self._record = _record or self._ask()

    def _ask(self) -> Dict[str, Any]:
        return _ask(self.name)

    @staticmethod
    def create(workspace: "Workspace", name: str, provisioning_configuration: Any) -> "ComputeTarget":
        """Make a compute target, which is ready at once. ComputeTargetException when the name is taken or cannot be one."""
        from azureml.core.compute import AmlComputeProvisioningConfiguration

        if not isinstance(provisioning_configuration, AmlComputeProvisioningConfiguration):
            raise UserErrorException("ComputeTarget.create: provisioning_configuration is of type %s; give "
                                     "AmlCompute.provisioning_configuration(...), or attach a machine: ComputeTarget.attach with "
                                     "RemoteCompute.attach_configuration(...)" % type(provisioning_configuration).__name__)
        return _make(workspace, name, provisioning_configuration._spec(), "ComputeTarget.create")

    @staticmethod
    def attach(workspace: "Workspace", name: str, attach_configuration: Any = None, attach_config: Any = None,
               **_: Any) -> "ComputeTarget":
        """Make a compute target of other machines, which RemoteCompute.attach_configuration describes. Each is asked what it has.

        ComputeTargetException when the name is taken, or a machine cannot be reached: it names the machine, and says why.
        """
        from azureml.core.compute import RemoteComputeAttachConfiguration

        given = attach_configuration if attach_configuration is not None else attach_config
        if not isinstance(given, RemoteComputeAttachConfiguration):
            raise UserErrorException("ComputeTarget.attach: '%s': attach_configuration is of type %s; machines are attached with "
                                     "RemoteCompute.attach_configuration(username, address, ...)" % (name, type(given).__name__))
        return _make(workspace, name, given._spec(), "ComputeTarget.attach")

    @staticmethod
    def list(workspace: "Workspace") -> "List[ComputeTarget]":
        """All compute targets."""
        with sdk_errors(ComputeTargetException):
            return [ComputeTarget(workspace, t["name"], _record=t) for t in client().targets()]

    @property
    def type(self) -> str:
        """'AmlCompute', 'VirtualMachine' for attached machines, or 'local' for this box itself."""
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
        """Wait until its min_nodes (or min_node_count of them, when that is less) are there. Those of this box are at once.

        show_output: print what notebooks show. Nothing is raised when they do not come in time; get_status() tells. A target that
        is to be deleted is gone at once: is_delete_operation raises ComputeTargetException when it is there.
        """
        if is_delete_operation:
            if any(t.name == self.name for t in ComputeTarget.list(self.workspace)):
                raise ComputeTargetException("the compute target '%s' is there; its delete() removes it" % self.name)
            return
        until = time.monotonic() + 60 * timeout_in_minutes
        self.refresh_state()
        if show_output:
            print("Succeeded", end="", flush=True)
        while self._nodes_missing(min_node_count) and time.monotonic() < until:
            if show_output:
                print(".", end="", flush=True)
            time.sleep(POLL_SECONDS)
            self.refresh_state()
        if show_output:
            print("\n%s wait for completion finished\n" % type(self).__name__)
            there = self.status.current_node_count
            if self._nodes_missing(min_node_count):
                print("Wait timeout has been reached")
            elif min_node_count is not None and there < min_node_count:
                print("%d nodes are there, and %d were asked for (max_nodes is %d)"
                      % (there, min_node_count, self._record["nodes"]["max"]))
            else:
                print("Minimum number of nodes requested have been provisioned")

    def _nodes_missing(self, wanted: Optional[int]) -> bool:
        least = self._record["spec"].get("min_nodes") or 0
        return self.status.current_node_count < (least if wanted is None else min(least, wanted))

    def list_nodes(self) -> "List[Dict[str, Any]]":
        """Its nodes that a run uses, or that are more than places on this box: nodeId, nodeState ('running', 'idle', 'preparing',
        'leaving', 'unusable' or 'preempted'), ipAddress and privateIpAddress (None where it is not known), port, runId."""
        self.refresh_state()
        if self._record["spec"]["kind"] != "hosts":
            return _counted(self.name, self._record["nodes"], self._record["spec"]["kind"] == "local")
        with sdk_errors(ComputeTargetException):
            nodes = [node for node in client().nodes() if self.name in node["targets"]]
        address = {host["host"]: host.get("port") for host in self._record["spec"]["hosts"]}
        return [_node(node["name"], _state(node), node["name"], address.get(node["name"]) or 22, (node.get("runs") or [None])[0])
                for node in nodes]

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


def _ask(name: str) -> Dict[str, Any]:
    """The record of a target. ComputeTargetException."""
    try:
        with sdk_errors(ComputeTargetException):
            return client().target(name)
    except ComputeTargetException as error:
        if isinstance(error.inner_exception, errors.NotFound):
            raise ComputeTargetException("ComputeTargetNotFound: there is no compute target '%s'; ComputeTarget.create makes "
                                         "one, and 'local' is this box" % name, error.inner_exception) from None
        raise


def _make(workspace: "Workspace", name: str, spec: Dict[str, Any], method: str) -> ComputeTarget:
    """Make a target that is not there yet."""
    for there in ComputeTarget.list(workspace):
        if there.name == name:
            change = "update() changes it" if hasattr(there, "update") else "detach() lets it go"
            raise ComputeTargetException("there is a compute target '%s' already; ComputeTarget(workspace, '%s') gives it, and its %s"
                                         % (name, name, change))
    with sdk_errors(ComputeTargetException, method + ": "):
        record = client().put_target(str(name), spec, ask=True)
    return ComputeTarget(workspace, str(name), _record=record)


def _state(node: Dict[str, Any]) -> str:
    """The word for the state of a NODE (docs/spec/http-api.md)."""
    if node.get("state") != "up":
        return "leaving" if node.get("state") == "drained" and node.get("runs") else "unusable"
    return "running" if node.get("runs") else "idle"


def _node(name: str, state: str, address: Optional[str], port: Optional[int], run: Optional[str]) -> Dict[str, Any]:
    return {"nodeId": name, "nodeState": state, "ipAddress": address, "privateIpAddress": address, "port": port, "runId": run}


def _counted(name: str, nodes: Dict[str, Any], local: bool) -> List[Dict[str, Any]]:
    """The nodes of a target that are known by their number alone. Of this box, those that are in use."""
    states = [state for state in STATES for _ in range(int(nodes.get(state) or 0)) if not local or state == "running"]
    return [_node("%s-%d" % (name, i), state, "127.0.0.1" if local else None, None, None) for i, state in enumerate(states)]


class AmlComputeStatus:
    """How a target is: attributes in snake_case, ``serialize()`` in the cloud's words."""

    def __init__(self, record: Dict[str, Any]) -> None:
        spec, nodes = record["spec"], record["nodes"]
        counts = {state: int(nodes.get(state) or 0) for state in STATES}
        self.current_node_count: int = counts["running"] + counts["idle"] + counts["leaving"]
        self.target_node_count: int = counts["running"] + counts["idle"] + counts["preparing"]
        self.vm_size: str = spec.get("vm_size") or ""
        self.vm_priority: str = {"lowpriority": "LowPriority"}.get(spec.get("vm_priority") or "", "Dedicated")
        self.allocation_state: str = nodes.get("allocation_state") or "Steady"
        self.provisioning_state = "Succeeded"
        self.creation_time: Optional[str] = record.get("created")
        self.allocation_state_transition_time = self.provisioning_state_transition_time = self.creation_time
        self.modified_time: Optional[str] = None  # the service does not keep it
        self.errors: Optional[List[Any]] = None
        self.node_state_counts = {state + "NodeCount": counts[state] for state in STATES}
        idle = spec.get("idle_seconds_before_scaledown")
        default = 0 if spec.get("kind") == "slurm" else 1800
        self.scale_settings = {"minNodeCount": spec.get("min_nodes") or 0, "maxNodeCount": nodes["max"],
                               "nodeIdleTimeBeforeScaleDown": "PT%dS" % (default if idle is None else idle)}

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
