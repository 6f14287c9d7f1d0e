"""Process sets."""
import os

import torch
from common import checks_of, everyone, hvd, main, raises, reduced, same, values

N = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
even, odd = hvd.ProcessSet(range(0, N, 2)), hvd.ProcessSet(range(1, N, 2))


def check_before_init():
    assert even.size() is None and even.rank() is None and even.included() is None and even.process_set_id is None
    if N >= 2:
        given = [s for s in (even, odd) if len(s.ranks) != N]
        hvd.init(process_sets=given)
        assert [s.process_set_id for s in given] == list(range(1, len(given) + 1))
    else:
        hvd.init()
    assert hvd.global_process_set.ranks == list(range(N)) and hvd.global_process_set.size() == N


def check_members():
    if N < 2:
        return
    mine = even if hvd.rank() % 2 == 0 else odd
    assert mine.included() and mine.rank() == hvd.rank() // 2 and mine.size() == len(mine.ranks)
    other = odd if mine is even else even
    assert not other.included() and other.rank() is None


def check_operations():
    if N < 2:
        return
    mine = even if hvd.rank() % 2 == 0 else odd
    parts = everyone(torch.float32, (6, 2), 3, mine.ranks)
    for op in (hvd.Sum, hvd.Average, hvd.Max):
        same(hvd.allreduce(values(hvd.rank(), torch.float32, (6, 2), 3), op=op, process_set=mine), reduced(parts, op), 4)
    same(hvd.allgather(values(hvd.rank(), torch.float32, (6, 2), 3), process_set=mine, name="one.name"), torch.cat(parts))
    root = mine.ranks[-1]
    same(hvd.broadcast(values(hvd.rank(), torch.int64, (5,)), root, process_set=mine), values(root, torch.int64, (5,)))
    n = mine.size()
    same(hvd.alltoall(values(hvd.rank(), torch.float32, (n, 2)), process_set=mine),
         torch.stack([x[mine.rank()] for x in everyone(torch.float32, (n, 2), 0, mine.ranks)]))
    same(hvd.reducescatter(values(hvd.rank(), torch.float32, (n, 2)), op=hvd.Sum, process_set=mine),
         reduced(everyone(torch.float32, (n, 2), 0, mine.ranks), hvd.Sum)[mine.rank():mine.rank() + 1], 4)
    assert hvd.allgather_object(("rank", hvd.rank()), process_set=mine) == [("rank", r) for r in mine.ranks]
    assert hvd.broadcast_object({"from": hvd.rank()}, root, process_set=mine) == {"from": root}
    hvd.barrier(process_set=mine)
    hvd.barrier()


def check_strangers_are_refused():
    if N < 2:
        return
    other = odd if hvd.rank() % 2 == 0 else even
    for call in (lambda: hvd.allreduce(torch.ones(2), process_set=other), lambda: hvd.allgather(torch.ones(2), process_set=other),
                 lambda: hvd.broadcast(torch.ones(2), other.ranks[0], process_set=other),
                 lambda: hvd.alltoall(torch.ones(2), process_set=other), lambda: hvd.reducescatter(torch.ones(2), process_set=other),
                 lambda: hvd.barrier(process_set=other)):
        raises(ValueError, call, "member")
    mine = even if hvd.rank() % 2 == 0 else odd
    raises(ValueError, lambda: hvd.broadcast(torch.ones(2), other.ranks[0], process_set=mine), "root")
    raises(NotImplementedError, lambda: hvd.allreduce(torch.ones(2), op=hvd.Adasum, process_set=mine), "process set")
    hvd.barrier()


def check_dynamic_sets():
    raises(ValueError, lambda: hvd.add_process_set([0]), "HOROVOD_DYNAMIC_PROCESS_SETS")
    raises(ValueError, lambda: hvd.remove_process_set(even), "HOROVOD_DYNAMIC_PROCESS_SETS")
    os.environ["HOROVOD_DYNAMIC_PROCESS_SETS"] = "1"
    raises(ValueError, lambda: hvd.add_process_set(range(N)), "already")
    raises(ValueError, lambda: hvd.add_process_set([N]), "ranks")
    assert hvd.remove_process_set(hvd.global_process_set) is False
    assert hvd.remove_process_set(hvd.ProcessSet([0])) is False
    if N < 2:
        return
    for _ in range(70):                 # more than there may be at once
        one = hvd.add_process_set([N - 1]) if N > 2 else None
        pair = hvd.add_process_set(hvd.ProcessSet([1, 0])) if N > 2 else None
        if N == 2:
            break
        assert pair.ranks == [0, 1]
        raises(ValueError, lambda: hvd.add_process_set([0, 1]), "already")
        if pair.included():
            assert hvd.allreduce(torch.ones(1), op=hvd.Sum, process_set=pair).item() == 2
        if one.included():
            assert hvd.allreduce(torch.ones(1), op=hvd.Sum, process_set=one).item() == 1
        assert hvd.remove_process_set(pair) is True and hvd.remove_process_set(one) is True
        assert pair.process_set_id is None and pair.included() is None
        assert hvd.remove_process_set(pair) is False
        raises(ValueError, lambda: hvd.allreduce(torch.ones(1), process_set=pair), "not registered")


def check_gradients():
    if N < 2:
        return
    mine = even if hvd.rank() % 2 == 0 else odd
    x = torch.ones(3, requires_grad=True)
    (hvd.allreduce(x, op=hvd.Sum, process_set=mine) * float(hvd.rank() + 1)).sum().backward()
    assert torch.allclose(x.grad, torch.full((3,), float(sum(r + 1 for r in mine.ranks))))
    hvd.barrier()               # the next check shuts the whole world down


def check_end():
    hvd.shutdown()
    assert even.process_set_id is None and hvd.global_process_set.ranks is None and hvd.global_process_set.process_set_id == 0
    hvd.init(process_sets="dynamic")
    if N > 1:
        hvd.add_process_set(odd)
        assert odd.process_set_id == 1
    hvd.barrier()
    hvd.shutdown()
    raises(ValueError, lambda: hvd.init(process_sets="often"), "often")
    if N > 2:
        raises(ValueError, lambda: hvd.init(process_sets=[hvd.ProcessSet([0, 1]), hvd.ProcessSet([1, 0])]), "twice")
        assert not hvd.is_initialized()
        hvd.init(process_sets=[hvd.ProcessSet([0, 1])])
        hvd.barrier()
        hvd.shutdown()


main(checks_of(globals()))
