"""Ranks that run out of data."""
import random

import torch
from common import checks_of, hvd, main, raises


def check_each_rank_joins_in_its_turn():
    """With unnamed operations, round after round."""
    n, me = hvd.size(), hvd.rank()
    for turn in range(8):
        steps = [(r + turn) % n for r in range(n)]          # how many batches each rank has
        for step in range(steps[me]):
            got = hvd.allreduce(torch.full((10,), float(me + 1)), op=hvd.Average)
            want = sum(r + 1 for r in range(n) if steps[r] > step) / n
            assert torch.allclose(got, torch.full((10,), want)), (turn, step, got, want)
        last = hvd.join()
        assert 0 <= last < n
        assert n == 1 or steps[last] == max(steps), (last, steps)
        assert len(set(hvd.allgather(torch.tensor([last])).tolist())) == 1
        assert hvd.allgather(torch.tensor([me])).tolist() == list(range(n))


def check_every_reduction():
    """A rank that joined adds zeros, or what leaves the result alone."""
    n, me = hvd.size(), hvd.rank()
    if me == 0:
        last = hvd.join()
    else:
        total = sum(r + 1 for r in range(1, n))
        assert hvd.allreduce(torch.full((3,), float(me + 1)), op=hvd.Sum, name="s")[0] == total
        assert hvd.allreduce(torch.full((3,), me + 1, dtype=torch.int64), op=hvd.Sum, name="i")[0] == total
        assert hvd.allreduce(torch.full((3,), me + 1, dtype=torch.float16), op=hvd.Average, name="h")[0].item() - total / n < 1e-2
        outs = hvd.grouped_allreduce([torch.ones(2), torch.ones(3)], op=hvd.Sum, name="g")
        assert [o[0].item() for o in outs] == [n - 1, n - 1]
        last = hvd.join()
    assert last != 0 or n == 1


def check_other_operations_are_refused():
    n, me = hvd.size(), hvd.rank()
    if n == 1:
        return
    for call in (lambda: hvd.allgather(torch.ones(2), name="g"), lambda: hvd.broadcast(torch.ones(2), 1, name="b"),
                 lambda: hvd.alltoall(torch.ones(2 * n), name="a"), lambda: hvd.reducescatter(torch.ones(2 * n), name="r")):
        if me == 0:
            hvd.join()
        else:
            raises(hvd.HorovodInternalError, call, "join")
            hvd.join()
    hvd.barrier()


def check_uneven_training():
    random.seed(17)
    for _ in range(10):
        batches = [random.randrange(12) for _ in range(hvd.size())]
        for i in range(batches[hvd.rank()]):
            handles = [hvd.allreduce_async_(torch.ones(k + 1), name="layer.%d" % k, op=hvd.Sum) for k in range(5)]
            left = sum(b > i for b in batches)
            assert [hvd.synchronize(h)[0].item() for h in handles] == [left] * 5
        hvd.join()


hvd.init()
main(checks_of(globals()))
