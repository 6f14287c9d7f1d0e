"""What `hvd.init(comm=...)` takes: mpi4py communicators, and lists of ranks that are made into one.

The engine itself knows nothing of MPI; a communicator only carries the addresses of the ranks to each other at start.
"""
import os
from typing import Any, Dict, List, Optional, Sequence

RANK_VARIABLES = ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
SIZE_VARIABLES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "HOROVOD_SIZE", "SLURM_NTASKS", "WORLD_SIZE")


def started_by_mpirun() -> bool:
    """Whether mpirun (or an mpiexec that speaks PMI) started this process."""
    return any(name in os.environ for name in RANK_VARIABLES)


def world_size() -> Optional[int]:
    """How many ranks the launcher has started, if it says so."""
    for name in SIZE_VARIABLES:
        value = os.environ.get(name, "")
        if value.isdigit():
            return int(value)
    return None


class Exchange:
    """The addresses of the ranks, over a duplicate of an mpi4py communicator."""

    def __init__(self, comm: Any) -> None:
        self.comm = comm.Dup()
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        self._mine: Dict[str, bytes] = {}
        self._all: List[Dict[str, bytes]] = []

    def put(self, key: str, value: bytes) -> None:
        self._mine[key] = value

    def fence(self, timeout_ms: int) -> None:
        self._all = self.comm.allgather(self._mine)

    def get(self, rank: int, key: str) -> Optional[bytes]:
        return self._all[rank].get(key)

    def close(self) -> None:
        """Free the duplicate, unless MPI has ended before."""
        from mpi4py import MPI

        if not MPI.Is_finalized():
            self.comm.Free()


def communicator(comm: Any) -> Any:
    """What init() was given as an mpi4py communicator; None for the whole world."""
    if comm is None or hasattr(comm, "Get_group"):
        return comm
    ranks: Sequence[int] = [int(r) for r in comm]
    if not ranks or ranks == list(range(world_size() or 1)):
        return None
    try:
        from mpi4py import MPI
    except ImportError:
        raise ValueError("init(comm=%s) names a part of the ranks, which takes mpi4py; hvd.ProcessSet works without it"
                         % (ranks,)) from None
    world = MPI.COMM_WORLD
    if len(set(ranks)) != len(ranks) or min(ranks) < 0 or max(ranks) >= world.Get_size():
        raise ValueError("init(comm=%s): there are the ranks 0 to %d, each once" % (ranks, world.Get_size() - 1))
    if world.Get_rank() not in ranks:
        raise ValueError("init(comm=%s) was called on rank %d, which is not among them" % (ranks, world.Get_rank()))
    return world.Create_group(world.Get_group().Incl(ranks))
