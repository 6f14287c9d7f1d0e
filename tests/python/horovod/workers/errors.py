"""Mistakes: found here (ValueError), or by the ranks together (HorovodInternalError on every rank), and going on after."""
import warnings

import torch
from common import checks_of, hvd, main, raises

Internal = hvd.HorovodInternalError


def check_before_init():
    for ask in (hvd.rank, hvd.size, hvd.local_rank, hvd.local_size, hvd.cross_rank, hvd.cross_size, hvd.mpi_threads_supported):
        raises(ValueError, ask, "not been initialized")
    assert not hvd.is_initialized()
    for call in (lambda: hvd.allreduce(torch.ones(1)), lambda: hvd.allreduce_async_(torch.ones(1)), hvd.barrier, hvd.join,
                 lambda: hvd.allgather(torch.ones(1)), lambda: hvd.broadcast(torch.ones(1), 0), lambda: hvd.alltoall(torch.ones(1)),
                 lambda: hvd.reducescatter(torch.ones(1))):
        raises(Internal, call, "not been initialized")
    assert hvd.global_process_set.size() is None and hvd.global_process_set.rank() is None
    raises(ValueError, lambda: hvd.start_timeline("/nowhere"), "not been initialized")
    hvd.shutdown()
    hvd.init()
    hvd.init()
    assert hvd.is_initialized()


def check_arguments():
    t = torch.ones(4)
    raises(ValueError, lambda: hvd.allreduce(t, average=True, op=hvd.Sum), "average")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        assert hvd.allreduce(t, average=False)[0] == hvd.size()
        assert hvd.allreduce(t, average=True)[0] == 1
    assert [w.category for w in seen] == [DeprecationWarning] * 2
    raises(ValueError, lambda: hvd.allreduce(t, op=17))
    for bad in (torch.ones(3, dtype=torch.complex64), torch.ones(3).to_sparse(), torch.quantize_per_tensor(t, 0.1, 0, torch.qint8)):
        for call in (hvd.allreduce, hvd.allreduce_, hvd.allreduce_async, hvd.allgather, lambda x: hvd.broadcast(x, 0), hvd.alltoall,
                     hvd.reducescatter, lambda x: hvd.grouped_allreduce([x])):
            raises(ValueError, lambda: call(bad), "not supported")
    gaps = torch.ones(4, 4).t()[1:]
    for call in (hvd.allreduce_, hvd.allreduce, hvd.allgather, lambda x: hvd.broadcast_(x, 0)):
        raises(ValueError, lambda: call(gaps), "contiguous")
    raises(ValueError, lambda: hvd.broadcast(t, hvd.size()), "root")
    raises(ValueError, lambda: hvd.broadcast(t, -1), "root")
    raises(IndexError, lambda: hvd.allgather(torch.tensor(1.0)), "dimension")
    raises(ValueError, lambda: hvd.alltoall(torch.tensor(1.0)), "dimension")
    raises(ValueError, lambda: hvd.reducescatter(torch.tensor(1.0)), "dimension")
    for op in (hvd.Min, hvd.Max, hvd.Product, hvd.Adasum):
        if op != hvd.Adasum:
            raises(Internal, lambda: hvd.reducescatter(t, op=op), "reducescatter")
    raises(ValueError, lambda: hvd.poll(123456789))
    assert hvd.synchronize(123456789) is None
    raises(ValueError, lambda: hvd.grouped_allreduce([]))
    raises(ValueError, lambda: hvd.allreduce(t, process_set=hvd.ProcessSet([0])), "not registered")
    raises(ValueError, lambda: hvd.sparse_allreduce_async(t, name="dense"), "sparse")


def check_splits():
    n = hvd.size()
    t = torch.ones(2 * n)
    raises(ValueError, lambda: hvd.alltoall(t, [1] * (n + 1)), "splits")
    raises(ValueError, lambda: hvd.alltoall(t, [n + 2] * n if n > 1 else [3]), "splits")
    raises(ValueError, lambda: hvd.alltoall(t, [-1] * n), "splits")
    raises(ValueError, lambda: hvd.alltoall(t, torch.tensor([1] * n)), "int32")
    raises(ValueError, lambda: hvd.alltoall(t, torch.ones(n)), "int32")
    if n > 1:
        raises(ValueError, lambda: hvd.alltoall(torch.ones(n + 1)), "divided")


def check_duplicate_name():
    if hvd.size() == 1:
        return
    if hvd.rank() == 0:
        first = hvd.allreduce_async(torch.ones(5), name="twice", op=hvd.Sum)
        raises(ValueError, lambda: hvd.allreduce_async(torch.ones(5), name="twice", op=hvd.Sum), "twice")
        hvd.broadcast(torch.zeros(1), 0, name="now.you")
    else:
        hvd.broadcast(torch.zeros(1), 0, name="now.you")
        first = hvd.allreduce_async(torch.ones(5), name="twice", op=hvd.Sum)
    assert hvd.synchronize(first)[0] == hvd.size()


def disagree(call, *words):
    """On every rank the same sentence, and the job goes on."""
    if hvd.size() == 1:
        return
    text = str(raises(Internal, call, *words))
    assert len(set(hvd.allgather_object(text))) == 1, hvd.allgather_object(text)


def check_shapes():
    disagree(lambda: hvd.allreduce(torch.ones(17 if hvd.rank() == 0 else 18), name="shapes"), "shapes", 17, 18)
    disagree(lambda: hvd.allreduce(torch.ones((17, 3) if hvd.rank() == 0 else (3, 17)), name="turned"), "turned")
    disagree(lambda: hvd.allgather(torch.ones(2, 3 + hvd.rank()), name="rows"), "rows")
    disagree(lambda: hvd.broadcast(torch.ones(3 + hvd.rank()), 0, name="cast"), "cast")
    disagree(lambda: hvd.alltoall(torch.ones(hvd.size(), 3 + hvd.rank()), name="all"), "all")
    disagree(lambda: hvd.reducescatter(torch.ones(hvd.size(), 3 + hvd.rank()), name="scatter"), "scatter")
    disagree(lambda: hvd.grouped_allreduce([torch.ones(3), torch.ones(3 + hvd.rank())], name="group"), "group")
    disagree(lambda: hvd.allgather(torch.ones((3,) * (1 + (hvd.rank() > 0))), name="dims"), "dims")


def check_types():
    types = [torch.float32, torch.float64, torch.int32, torch.int64]
    for name, call in (("ar", hvd.allreduce), ("ag", hvd.allgather), ("b", lambda t, name: hvd.broadcast(t, 0, name=name)),
                       ("rs", hvd.reducescatter), ("aa", hvd.alltoall)):
        disagree(lambda: call(torch.ones(12, dtype=types[hvd.rank()]), name="types." + name), "types." + name, "float32", "float64")


def check_operations():
    disagree(lambda: hvd.allreduce(torch.ones(4), name="op", op=hvd.Sum if hvd.rank() == 0 else hvd.Max), "op", "sum", "max")
    disagree(lambda: hvd.allreduce(torch.ones(4), name="pre", prescale_factor=1.0 + hvd.rank()), "pre")
    disagree(lambda: hvd.allreduce(torch.ones(4), name="post", postscale_factor=1.0 + hvd.rank()), "post")
    disagree(lambda: hvd.broadcast(torch.ones(4), 0 if hvd.rank() == 0 else 1, name="roots"), "roots", "root")
    disagree(lambda: hvd.reducescatter(torch.ones(12), name="sum.or.average", op=hvd.Sum if hvd.rank() == 0 else hvd.Average),
             "sum.or.average", "average")


def check_the_job_goes_on():
    for i in range(20):
        assert hvd.allreduce(torch.ones(8), name="on", op=hvd.Sum)[0] == hvd.size()


def check_after_shutdown():
    handle = hvd.allreduce_async(torch.ones(3), name="never") if hvd.size() > 1 and hvd.rank() == 0 else None
    hvd.barrier()
    hvd.shutdown()
    if handle is not None:
        raises(Internal, lambda: hvd.synchronize(handle), "shut down")
    raises(ValueError, hvd.rank)
    raises(Internal, lambda: hvd.allreduce(torch.ones(1)))
    assert not hvd.is_initialized()


main(checks_of(globals()))
