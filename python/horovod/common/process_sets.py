"""Process sets: ranks that operate among themselves."""
import os
from typing import Any, List, Optional, Sequence, Union

from horovod.common.basics import HorovodBasics, _basics
from horovod.common.exceptions import HorovodInternalError

DYNAMIC = "HOROVOD_DYNAMIC_PROCESS_SETS"


def _ranks_of(comm: Any, world: Any) -> List[int]:
    """The ranks in the mpi4py communicator `world` of the members of `comm`."""
    from mpi4py import MPI

    group = comm.Get_group()
    return list(MPI.Group.Translate_ranks(group, list(range(group.Get_size())), world.Get_group()))


class ProcessSet:
    """Ranks that operate among themselves: `hvd.allreduce(t, process_set=hvd.ProcessSet([0, 2]))`, once it is registered.

    ranks_or_comm: ranks of the world, in any order, or an mpi4py communicator, which takes an init() with one.
    A set is registered by `hvd.init(process_sets=[...])` or `hvd.add_process_set()`, the same on every rank.
    """

    process_set_id: Optional[int] = None
    ranks: Optional[List[int]] = None
    mpi_comm: Any = None

    def __init__(self, ranks_or_comm: Union[Sequence[int], Any]) -> None:
        if hasattr(ranks_or_comm, "Get_group"):
            self.mpi_comm = ranks_or_comm
        else:
            self.ranks = sorted(set(int(r) for r in ranks_or_comm))

    def _invalidate(self) -> None:
        self.process_set_id = None

    def size(self) -> Optional[int]:
        """How many ranks it has; None before it is registered."""
        return None if self.process_set_id is None or self.ranks is None else len(self.ranks)

    def rank(self) -> Optional[int]:
        """This process's rank in the set; None if it is no member, or before the set is registered."""
        if self.process_set_id is None or self.ranks is None:
            return None
        try:
            return self.ranks.index(_basics.rank())
        except ValueError:
            return None

    def included(self) -> Optional[bool]:
        """Whether this process is a member; None before the set is registered."""
        return None if self.process_set_id is None else self.rank() is not None

    def __repr__(self) -> str:
        return "ProcessSet(process_set_id=%r, ranks=%r, mpi_comm=%r)" % (self.process_set_id, self.ranks, self.mpi_comm)


class _GlobalProcessSet(ProcessSet):
    """All ranks. Its id is known before init()."""

    process_set_id = 0

    def __init__(self) -> None:
        self.ranks = None

    def _invalidate(self) -> None:
        self.ranks = None

    def rank(self) -> Optional[int]:
        return None if self.ranks is None else _basics.rank()


global_process_set = _GlobalProcessSet()
_registered: List[ProcessSet] = []      # in the order of their ids, without the global one


def _setup(basics: HorovodBasics, process_sets: Optional[Sequence[ProcessSet]], comm: Any) -> None:
    """Register the sets that init() was given, which may differ between ranks: each is made once, everywhere."""
    from horovod import _coll

    global_process_set.ranks = list(range(basics.size()))
    _registered.clear()
    mine = []
    for one in process_sets or ():
        if one.mpi_comm is not None:
            one.ranks = sorted(_ranks_of(one.mpi_comm, comm))
        mine.append(tuple(one.ranks or ()))
    if len(set(mine)) != len(mine):
        raise ValueError("init() was given one process set twice: %s" % (mine,))
    if any(len(ranks) == basics.size() for ranks in mine):
        raise ValueError("init() was given a process set of all ranks; that is hvd.global_process_set")
    for ranks in basics.gather_tuples(mine):
        set_id = basics.engine().do(_coll.SET_ADD, None, 0, 0, 0, 1.0, 1.0, 0, (), None, ranks)
        for one in process_sets or ():
            if tuple(one.ranks or ()) == ranks:
                one.process_set_id = set_id
                _registered.append(one)
                break
        else:
            other = ProcessSet(ranks)
            other.process_set_id = set_id
            _registered.append(other)


def _teardown() -> None:
    """Called when the engine was closed: sets are gone with it."""
    for one in _registered:
        one._invalidate()
    _registered.clear()
    global_process_set._invalidate()


def _check_dynamic(what: str) -> None:
    if os.environ.get(DYNAMIC, "").strip().lower() not in ("1", "true", "on", "yes"):
        raise ValueError("%s() needs %s=1 in the environment, or hvd.init(process_sets=\"dynamic\"), on every rank" % (what, DYNAMIC))


def add_process_set(process_set: Union[ProcessSet, Sequence[int]]) -> ProcessSet:
    """Register a set while the job runs; every rank calls this with the same ranks."""
    from horovod import _coll

    engine = _basics.engine()
    _check_dynamic("add_process_set")
    one = process_set if isinstance(process_set, ProcessSet) else ProcessSet(process_set)
    if one.mpi_comm is not None and one.ranks is None:
        raise NotImplementedError("a process set of an MPI communicator can be given to hvd.init() alone; "
                                  "name its ranks instead")
    ranks = tuple(one.ranks or ())
    if one.process_set_id is not None or ranks in [tuple(r.ranks or ()) for r in _registered + [global_process_set]]:
        raise ValueError("the process set of the ranks %s is registered already" % (list(ranks),))
    if not ranks or ranks[0] < 0 or ranks[-1] >= _basics.size():
        raise ValueError("a process set of the ranks %s cannot be made: there are the ranks 0 to %d"
                         % (list(ranks), _basics.size() - 1))
    one.process_set_id = engine.do(_coll.SET_ADD, None, 0, 0, 0, 1.0, 1.0, 0, (), None, ranks)
    _registered.append(one)
    return one


def remove_process_set(process_set: ProcessSet) -> bool:
    """Take a set away, on every rank; False if it is not registered, or is the global one."""
    from horovod import _coll

    engine = _basics.engine()
    _check_dynamic("remove_process_set")
    if not process_set.process_set_id or process_set not in _registered:
        return False
    engine.do(_coll.SET_REMOVE, None, process_set.process_set_id, 0, 0, 1.0, 1.0, 0, ())
    _registered.remove(process_set)
    process_set._invalidate()
    return True


def is_process_set_included(process_set_id: int) -> bool:
    """Whether this process belongs to the registered set with that id."""
    for one in [global_process_set] + _registered:
        if one.process_set_id == process_set_id:
            return bool(one.included())
    raise HorovodInternalError("there is no process set %d" % process_set_id)


def get_process_set_ids_and_ranks() -> Any:
    """{id: ranks} of all sets."""
    return {one.process_set_id: list(one.ranks or ()) for one in [global_process_set] + _registered}
