"""Start and end of the engine, and where this process stands in the job."""
import atexit
import os
import struct
import sys
import threading
import time
from typing import Any, Callable, List, Optional, Sequence, Tuple

from horovod import _coll
from horovod.common import cuda, metrics, mpi, util
from horovod.common.exceptions import HorovodInternalError, HorovodStartError

_coll.set_errors(HorovodInternalError, HorovodStartError)

NOT_INITIALIZED = "Horovod has not been initialized; use hvd.init()."
QUIET_LEVELS = ("error", "fatal")


def _elastic() -> bool:
    return os.environ.get("HOROVOD_ELASTIC") == "1"


def _next_context(**options: Any) -> "_coll.Context":
    """The engine in the next world that the launcher's driver makes.

    A rank of it may have died since: then there is another world to ask for, until the driver's time is over.
    """
    from horovod.runner.elastic.client import WorkerClient, timeout_of_environment

    client = WorkerClient.from_env()
    if client is None:
        return _coll.Context(**options)
    deadline = time.monotonic() + timeout_of_environment()
    while True:
        client.enter()
        try:
            return _coll.Context(**options)
        except HorovodStartError:
            if time.monotonic() >= deadline:
                raise


def _of_launcher(topology: Tuple[Any, ...]) -> Tuple[Any, ...]:
    """The topology in the words of the launcher, when that is Trainyard.

    Its nodes may be parts of one box, whose ranks share memory all the same: the engine sees one node there, but a script
    that asks for its local rank means the node that it was given.
    """
    names = ("TRAINYARD_COLL_RANK", "TRAINYARD_COLL_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "NODE_RANK")
    try:
        rank, size, local_rank, local_size, node = (int(os.environ[name]) for name in names)
    except (KeyError, ValueError):
        return topology
    if (rank, size) != tuple(topology[:2]) or rank != node * local_size + local_rank or size % local_size:
        return topology     # another launcher's world inside of ours, or one of a part of the ranks
    return (rank, size, local_rank, local_size, node, size // local_size, True)


class HorovodBasics:
    """The engine of this process. One object, `_basics`, serves every framework's module.

    context: the open `_coll.Context`, or None
    """

    def __init__(self) -> None:
        self.context: Optional[_coll.Context] = None
        self.closing: List[Callable[[], Any]] = []      # called before the engine closes
        self._exchange: Optional[mpi.Exchange] = None
        self._topology: Tuple[Any, ...] = ()            # stays readable in forked children
        self._lock = threading.RLock()
        self._registered = False

    # ---- life cycle ----

    def init(self, comm: Any = None, process_sets: Any = None) -> None:
        """Join the other ranks. A second call does nothing; after shutdown() it joins anew.

        comm: None for all ranks, a list of ranks, or an mpi4py communicator, which is duplicated
        process_sets: a list of ProcessSet to register, or "dynamic" to allow add_process_set()

        Raises HorovodInternalError, which is a ValueError here, when the ranks cannot find each other.
        """
        with self._lock:
            if self.context is not None:
                return
            if isinstance(process_sets, str):
                if process_sets.lower() != "dynamic":
                    raise ValueError("process_sets is a list of hvd.ProcessSet or \"dynamic\", not '%s'" % process_sets)
                os.environ["HOROVOD_DYNAMIC_PROCESS_SETS"] = "1"
                process_sets = None
            if comm is None and any(one.mpi_comm is not None for one in process_sets or ()):
                raise NotImplementedError("process sets of MPI communicators need a communicator of all ranks: "
                                          "hvd.init(comm=MPI.COMM_WORLD, process_sets=...)")
            self._open(mpi.communicator(comm), process_sets)
            if not self._registered:
                self._registered = True
                atexit.register(self.shutdown)

    def _open(self, comm: Any, process_sets: Optional[Sequence[Any]]) -> None:
        from horovod.common import process_sets as sets

        options = {"quiet": os.environ.get("HOROVOD_LOG_LEVEL", "").strip().lower() in QUIET_LEVELS, "cuda_path": cuda.search_path()}
        if comm is not None:
            self._exchange = mpi.Exchange(comm)
            options.update(boot=self._exchange, rank=self._exchange.rank, size=self._exchange.size)
        try:
            self.context = _next_context(**options) if comm is None and _elastic() else _coll.Context(**options)
            self._topology = _of_launcher(self.context.topology())
            sets._setup(self, process_sets, self._exchange.comm if self._exchange else None)
        except BaseException:
            self._close()
            raise
        metrics.begin(self.context)

    def _close(self) -> None:
        from horovod.common import process_sets as sets

        context, self.context, self._topology = self.context, None, ()
        if context is not None:
            context.close()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.close()
        sets._teardown()

    def shutdown(self) -> None:
        """Leave the job. What is in flight fails, on the other ranks too."""
        with self._lock:
            if self.context is None:
                return
            metrics.end(self.context)
            for call in list(self.closing):
                call()
            arena = sys.modules.get("horovod.torch.arena")
            if arena is not None:
                arena.retire()
            self._close()

    def is_initialized(self) -> bool:
        """Whether init() was called, and no shutdown() since."""
        return self.context is not None

    def engine(self) -> "_coll.Context":
        """The open context; HorovodInternalError without one."""
        context = self.context
        if context is None:
            raise HorovodInternalError(NOT_INITIALIZED)
        return context

    def gather_tuples(self, mine: Sequence[Tuple[int, ...]]) -> List[Tuple[int, ...]]:
        """Tuples of int of all ranks in the order of the ranks, each once. Collective."""
        words = [n for one in mine for n in (len(one),) + tuple(one)]
        data = struct.pack("=%dq" % len(words), *words) or b""
        context = self.engine()
        import ctypes

        source = ctypes.create_string_buffer(data, len(data) or 1)
        shape = (len(words),)
        handle = context.submit(_coll.ALLGATHER, "horovod.process_sets", 0, _coll.DTYPE_NUMBERS["int64"], _coll.SUM, 1.0, 1.0,
                                0, ((ctypes.addressof(source), len(words), shape, 0, 0),))
        blocks, rows = context.wait(handle, source, (8,))
        total = struct.unpack("=%dq" % sum(rows), bytes(blocks[0])) if sum(rows) else ()
        found: List[Tuple[int, ...]] = []
        at = 0
        while at < len(total):
            one = tuple(total[at + 1:at + 1 + total[at]])
            at += 1 + total[at]
            if one not in found:
                found.append(one)
        return found

    # ---- where this process stands ----

    def _where(self, i: int) -> int:
        if not self._topology:
            raise ValueError(NOT_INITIALIZED)
        return self._topology[i]

    def rank(self) -> int:
        """This process's number, from 0."""
        return self._where(0)

    def size(self) -> int:
        """How many processes there are."""
        return self._where(1)

    def local_rank(self) -> int:
        """This process's number on its node: the GPU to use."""
        return self._where(2)

    def local_size(self) -> int:
        """How many processes there are on this node."""
        return self._where(3)

    def cross_rank(self) -> int:
        """The number of this node among those that have this local rank."""
        return self._where(4)

    def cross_size(self) -> int:
        """How many nodes have this local rank."""
        return self._where(5)

    def is_homogeneous(self) -> bool:
        """Whether every node has as many processes."""
        return bool(self._where(6))

    # ---- what it is made of ----

    def mpi_threads_supported(self) -> bool:
        """Whether MPI may be called from several threads beside this: the engine itself calls none."""
        self._where(0)
        return self.mpi_enabled()

    def mpi_enabled(self) -> bool:
        """Whether mpirun started this process."""
        return mpi.started_by_mpirun()

    def mpi_built(self) -> bool:
        """True: scripts may be started by mpirun."""
        return util.mpi_built()

    def gloo_enabled(self) -> bool:
        """Whether something other than mpirun started this process."""
        return not mpi.started_by_mpirun()

    def gloo_built(self) -> bool:
        """True: the engine needs no MPI."""
        return util.gloo_built()

    def nccl_built(self) -> bool:
        """False: CUDA tensors go through pinned memory of the host."""
        return util.nccl_built()

    def ddl_built(self) -> bool:
        """False."""
        return util.ddl_built()

    def ccl_built(self) -> bool:
        """False."""
        return util.ccl_built()

    def cuda_built(self) -> bool:
        """False: nothing is built against CUDA. CUDA tensors work."""
        return util.cuda_built()

    def rocm_built(self) -> bool:
        """False."""
        return util.rocm_built()

    # ---- timeline ----

    def start_timeline(self, file_path: str, mark_cycles: bool = False) -> None:
        """Write a trace in Chrome's format on rank 0; HOROVOD_TIMELINE=DYNAMIC in the environment allows it."""
        self._timeline().timeline_start(file_path, bool(mark_cycles))

    def stop_timeline(self) -> None:
        """End the trace that start_timeline() began."""
        self._timeline().timeline_stop()

    def _timeline(self) -> "_coll.Context":
        if self.context is None:
            raise ValueError(NOT_INITIALIZED)
        if not os.environ.get("HOROVOD_TIMELINE"):
            raise ValueError("set HOROVOD_TIMELINE=DYNAMIC in the environment to start and stop the timeline from a script")
        return self.context


_basics = HorovodBasics()
