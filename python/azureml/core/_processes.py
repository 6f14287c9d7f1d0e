"""How many processes a run has and how they work together: one rule for estimators, ScriptRunConfig and run configurations.

A run configuration says it in four places: node_count, communicator, and the counts in mpi and pytorch. Estimators and ScriptRunConfig
write there, scripts may change it, and ``of`` reads it when a run is submitted.
"""
from typing import Any, Dict, NamedTuple, Optional

from azureml.core.runconfig import MpiConfiguration, PyTorchConfiguration, RunConfiguration, positive
from azureml.exceptions import UserErrorException

COMMUNICATORS = {"none": "None", "mpi": "Mpi", "openmpi": "Mpi", "intelmpi": "Mpi", "gloo": "Gloo", "nccl": "Nccl"}
FRAMEWORKS = ("python", "pytorch", "tensorflow", "cntk")  # words for a script of Python
HOW = "set run_config.communicator to 'Mpi', 'Gloo' or 'Nccl', or give ScriptRunConfig a distributed_job_config"


class Processes(NamedTuple):
    """What a run specification says of its processes."""

    node_count: int
    process_count_per_node: int
    communicator: str  # 'None', 'Mpi', 'Gloo' or 'Nccl'

    @property
    def total(self) -> int:
        """Processes in all."""
        return self.node_count * self.process_count_per_node


def of(rc: RunConfiguration) -> Processes:
    """The processes of a run configuration. UserErrorException, by name, for a contradiction, for more than one process without a word
    on how they work together, and for parameter servers."""
    communicator = communicator_of(rc.communicator)
    refuse_servers(rc)
    if str(rc.framework).lower() not in FRAMEWORKS:
        raise UserErrorException("run_config.framework is %r: Trainyard runs scripts of Python; use 'Python'" % (rc.framework,))
    if communicator in ("Gloo", "Nccl"):
        nodes = _nodes(rc, "pytorch", rc.pytorch)
        return Processes(nodes, _per_node(rc.pytorch, nodes), communicator)
    if communicator == "Mpi":
        return Processes(_nodes(rc, "mpi", rc.mpi), positive(rc.mpi.process_count_per_node, "run_config.mpi.process_count_per_node"),
                         communicator)
    for name, value in (("node_count", rc.node_count), ("process_count_per_node", rc.mpi.process_count_per_node),
                        ("mpi.node_count", rc.mpi.node_count), ("pytorch.node_count", rc.pytorch.node_count),
                        ("pytorch.process_count", rc.pytorch.process_count)):
        need_backend(name, value, "run_config.communicator is 'None'", HOW)
    return Processes(1, 1, communicator)


def need_backend(name: str, value: Any, why: str, instead: str) -> None:
    """UserErrorException for more than one process: nothing says how they work together."""
    if positive(value, name) > 1:
        raise UserErrorException("%s = %d asks for several processes, and %s, so that nothing says how they work together; %s"
                                 % (name, value, why, instead))


def communicator_of(value: Any) -> str:
    """The specification's word for a communicator. OpenMpi, IntelMpi and Mpi are one; parameter servers are refused by name."""
    text = str(value or "None")
    if text.lower() in ("parameterserver", "ps"):
        raise UserErrorException("communicator = %r asks for parameter servers, which Trainyard does not have; use 'Mpi', 'Gloo' or "
                                 "'Nccl'" % (value,))
    if text.lower() not in COMMUNICATORS:
        raise UserErrorException("communicator is %r, and may be 'None', 'Mpi' (also 'OpenMpi' and 'IntelMpi'), 'Gloo' or 'Nccl'"
                                 % (value,))
    return COMMUNICATORS[text.lower()]


def refuse_servers(rc: RunConfiguration) -> None:
    """UserErrorException for counts of a TensorFlow job with parameter servers."""
    for name in ("worker_count", "parameter_server_count"):
        value = getattr(rc.tensorflow, name)
        if positive(value, "run_config.tensorflow." + name) > 1:
            raise UserErrorException("run_config.tensorflow.%s = %d asks for parameter servers, which Trainyard does not have; leave it at "
                                     "1, and use node_count with run_config.communicator 'Mpi', 'Gloo' or 'Nccl'" % (name, value))


def _nodes(rc: RunConfiguration, section: str, given: Any) -> int:
    """The node count, which may stand in two places."""
    count = positive(rc.node_count, "run_config.node_count")
    other = positive(given.node_count, "run_config.%s.node_count" % section)
    if 1 not in (count, other) and count != other:
        raise UserErrorException("run_config.node_count is %d, and run_config.%s.node_count is %d; set one of them, or both to the same"
                                 % (count, section, other))
    return max(count, other)


def _per_node(given: PyTorchConfiguration, nodes: int) -> int:
    """Processes of each node from the total; 1 for the default."""
    total = positive(given.process_count, "run_config.pytorch.process_count")
    if total == given.node_count == 1:  # nothing was said of it
        return 1
    if total % nodes:
        raise UserErrorException("PyTorchConfiguration: process_count is %d, which counts the processes of all nodes, and cannot be "
                                 "shared evenly by node_count = %d; give a multiple of it" % (total, nodes))
    return total // nodes


# Writing

def set_mpi(rc: RunConfiguration, per_node: int, nodes: int) -> None:
    """`per_node` processes on each of `nodes` nodes, by MPI."""
    rc.mpi = MpiConfiguration(per_node, nodes)
    rc.node_count = nodes
    rc.communicator = "Mpi"


def set_torch(rc: RunConfiguration, backend: str, total: int, nodes: int) -> None:
    """`total` processes on `nodes` nodes, which torch.distributed joins by `backend`, 'Gloo' or 'Nccl'."""
    rc.pytorch = PyTorchConfiguration(backend, total, nodes)
    rc.node_count = nodes
    rc.communicator = backend
    rc.framework = "PyTorch"


def apply(rc: RunConfiguration, job: Any, what: str, nodes: int = 1, per_node: int = 1) -> None:
    """Write the object `job` (parameter `what`) into a run configuration. Its own counts win over `nodes` and `per_node`.

    UserErrorException for an object of another kind, for parameter servers, and for two node counts above 1 that differ.
    """
    kind = type(job).__name__
    if kind in SERVERS:
        raise UserErrorException("%s = %s asks for parameter servers, which Trainyard does not have; use MpiConfiguration, "
                                 "or leave it out to run one process" % (what, kind))
    if kind not in KINDS:
        raise UserErrorException("%s is of type %s; an MpiConfiguration or a PyTorchConfiguration of azureml.core.runconfig, or one of Mpi, "
                                 "Gloo, Nccl of azureml.train.dnn, is needed" % (what, kind))
    own = positive(getattr(job, "node_count", 1), "%s: node_count" % kind)
    if 1 not in (own, nodes) and own != nodes:
        raise UserErrorException("node_count is %d, and that of %s is %d; give one of them" % (nodes, kind, own))
    nodes = max(own, nodes)
    if kind == "PyTorchConfiguration":
        if positive(job.process_count, "%s: process_count" % kind) == own == 1:
            total = nodes * per_node
        else:
            total = job.process_count
        set_torch(rc, job.communication_backend, total, nodes)
        _per_node(rc.pytorch, nodes)
    elif kind in ("Gloo", "Nccl"):
        set_torch(rc, kind, nodes * per_node, nodes)
    else:
        set_mpi(rc, positive(job.process_count_per_node, "%s: process_count_per_node" % kind), nodes)


KINDS = ("Mpi", "MpiConfiguration", "Gloo", "Nccl", "PyTorchConfiguration")
SERVERS = ("ParameterServer", "TensorflowConfiguration")


def restarts(value: Any) -> Optional[Dict[str, int]]:
    """``run_config.max_restarts``: how often a run starts again, by cause. UserErrorException names what is wrong."""
    if value is None:
        return None
    if not isinstance(value, dict) or not set(value) <= set(CAUSES):
        raise UserErrorException("max_restarts is %r; a dictionary such as {'node_lost': 2} is needed, of %s"
                                 % (value, ", ".join("'%s'" % c for c in CAUSES)))
    for cause, count in value.items():
        if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= RESTARTS_MAX:
            raise UserErrorException("max_restarts: %s is %r; a whole number from 0 to %d is needed" % (cause, count, RESTARTS_MAX))
    return dict(value)


CAUSES = ("node_lost", "preempted", "error")
RESTARTS_MAX = 1000
