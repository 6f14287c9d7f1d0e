"""Start, end and start again; children; numbers; the questions about what there is."""
import gc
import json
import os
import sys
import threading

import torch
from common import checks_of, hvd, main, raises


def check_again_and_again():
    for i in range(6):
        hvd.init()
        assert hvd.allreduce(torch.tensor([i + hvd.rank()]), op=hvd.Sum).item() == sum(i + r for r in range(hvd.size()))
        assert hvd.allreduce(torch.ones(1000), name="named", op=hvd.Sum)[0] == hvd.size()
        hvd.shutdown()
        hvd.shutdown()
    hvd.init()


def check_topology():
    assert 0 <= hvd.rank() < hvd.size() and hvd.size() == int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    assert hvd.rank() == int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    assert (hvd.local_rank(), hvd.local_size(), hvd.cross_rank(), hvd.cross_size()) == (hvd.rank(), hvd.size(), 0, 1)
    from horovod.torch.mpi_ops import is_homogeneous

    assert is_homogeneous() is True


def check_questions():
    mpi = "OMPI_COMM_WORLD_SIZE" in os.environ
    assert hvd.mpi_enabled() is mpi and hvd.gloo_enabled() is not mpi and hvd.mpi_threads_supported() is mpi
    assert hvd.mpi_built() and hvd.gloo_built()
    assert not (hvd.ddl_built() or hvd.ccl_built() or hvd.rocm_built())
    assert {hvd.nccl_built(), hvd.cuda_built()} <= {True, False}
    assert (hvd.Average, hvd.Sum, hvd.Adasum, hvd.Min, hvd.Max, hvd.Product) == (0, 1, 2, 3, 4, 5)
    assert issubclass(hvd.HorovodInternalError, RuntimeError)


def check_metrics():
    before = hvd.metrics()
    assert (before["rank"], before["size"]) == (hvd.rank(), hvd.size())
    for _ in range(10):
        hvd.allreduce(torch.ones(1000), op=hvd.Sum)
    after = hvd.metrics()
    assert after["operations"] == before["operations"] + 10 and after["bytes"] == before["bytes"] + 40000, (before, after)
    assert after["exposed_s"] >= before["exposed_s"] and after["stalled"] == []
    assert sum(after["paths"].values()) == after["operations"]
    json.dumps(after)
    hvd.barrier()


def check_steps_are_counted():
    m = torch.nn.Linear(3, 1)
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(m.parameters(), lr=0.1), m.named_parameters())
    for _ in range(4):
        optimizer.zero_grad()
        m(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    got = hvd.metrics()
    assert got["steps"] == 4 and got["step_s"] >= got["step_exposed_s"] >= 0, got


def check_timeline():
    path = os.path.join(os.environ["TMPDIR"], "timeline.json")
    os.environ.pop("HOROVOD_TIMELINE", None)
    raises(ValueError, lambda: hvd.start_timeline(path), "HOROVOD_TIMELINE")
    raises(ValueError, hvd.stop_timeline, "HOROVOD_TIMELINE")
    os.environ["HOROVOD_TIMELINE"] = "DYNAMIC"
    for i in range(2):
        hvd.start_timeline(path, mark_cycles=bool(i))
        hvd.allreduce(torch.ones(100), name="seen.%d" % i)
        hvd.broadcast(torch.ones(100), 0, name="cast.%d" % i)
        hvd.stop_timeline()
        hvd.allreduce(torch.ones(100), name="unseen")
        if hvd.rank() == 0:
            with open(path) as file:
                text = json.dumps(json.load(file))
            assert "seen.%d" % i in text and "cast.%d" % i in text and "unseen" not in text, text
            assert "ALLREDUCE" in text and "BROADCAST" in text, text
        hvd.barrier()


def check_children():
    """A forked child knows where it is, cannot operate, and ends without harm to the job."""
    ask, tell = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            assert hvd.rank() >= 0 and hvd.size() > 0
            raises(hvd.HorovodInternalError, lambda: hvd.allreduce(torch.ones(1)), "forked")
            hvd.shutdown()
            os.write(tell, b"fine")
        finally:
            os._exit(0)
    os.close(tell)
    assert os.read(ask, 10) == b"fine"
    os.close(ask)
    assert os.waitpid(child, 0)[1] == 0
    assert hvd.allreduce(torch.ones(5), op=hvd.Sum)[0] == hvd.size()


def check_data_loader_workers():
    loader = torch.utils.data.DataLoader(torch.arange(64.0), batch_size=8, num_workers=2)
    for batch in loader:
        assert torch.equal(hvd.allreduce(batch, op=hvd.Average), batch)


def check_arena():
    from horovod.torch import mpi_ops

    context = mpi_ops._basics.context
    t = torch.frombuffer(context.arena_alloc(4 << 20), dtype=torch.float32)
    assert t.numel() == 1 << 20 and not t.any() and t.data_ptr() % 64 == 0
    assert context.arena_has(t.data_ptr()) and not context.arena_has(torch.ones(1).data_ptr())
    for i in range(3):
        t.fill_(float(hvd.rank() + i))
        hvd.allreduce_(t, op=hvd.Sum)
        assert t.eq(float(sum(r + i for r in range(hvd.size())))).all()
    part = t[1000:2000]
    del t
    gc.collect()
    other = torch.frombuffer(context.arena_alloc(4 << 20), dtype=torch.float32)
    assert abs(other.data_ptr() - part.data_ptr()) >= (1 << 12) * 4 - 4000
    part.fill_(7.0)
    hvd.barrier()
    hvd.shutdown()
    assert part.eq(7.0).all()           # it outlives the engine
    part.add_(1.0)
    hvd.init()
    del context
    gc.collect()
    assert part.eq(8.0).all()
    assert hvd.allreduce_(part, op=hvd.Sum)[0] == 8.0 * hvd.size()
    del part, other
    gc.collect()


def check_threads():
    """Several threads operate at once, by names that they do not share."""
    failed = []

    def work(k):
        try:
            for i in range(50):
                assert hvd.allreduce(torch.full((k + 1,), float(i)), op=hvd.Sum, name="thread.%d" % k)[0] == i * hvd.size()
        except BaseException as e:
            failed.append(e)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failed and not any(thread.is_alive() for thread in threads), failed


def check_shutdown_ends_the_wait_of_a_thread():
    if hvd.size() == 1:
        return
    ready, ends = threading.Event(), []

    def wait():
        ready.set()
        try:
            hvd.allreduce(torch.ones(3), name="nobody.else.%d" % hvd.rank())
        except BaseException as e:
            ends.append(type(e))

    thread = threading.Thread(target=wait)
    thread.start()
    ready.wait(60)
    hvd.barrier()
    hvd.shutdown()
    thread.join(60)
    assert ends and ends[0] in (hvd.HorovodInternalError, ValueError), ends     # the latter before it had begun
    hvd.init()
    assert hvd.allreduce(torch.ones(3), op=hvd.Sum)[0] == hvd.size()


def check_communicators():
    try:
        from mpi4py import MPI
    except ImportError:
        return
    hvd.shutdown()
    hvd.init(comm=list(range(hvd_size())))
    assert hvd.size() == hvd_size()
    hvd.shutdown()
    world = MPI.COMM_WORLD
    hvd.init(comm=world)
    assert (hvd.rank(), hvd.size()) == (world.rank, world.size)
    assert hvd.allreduce(torch.ones(1), op=hvd.Sum).item() == world.size
    hvd.shutdown()
    half = [r for r in range(world.size) if r % 2 == world.rank % 2][::-1]
    hvd.init(comm=half)
    assert (hvd.size(), hvd.rank()) == (len(half), half.index(world.rank))
    assert hvd.allgather(torch.tensor([world.rank])).tolist() == half
    hvd.shutdown()
    raises(ValueError, lambda: hvd.init(comm=[0, world.size]), "ranks")
    split = world.Split(world.rank % 2, world.rank)
    one = hvd.ProcessSet(split)
    raises(NotImplementedError, lambda: hvd.init(process_sets=[one]))
    if world.size > 1:
        hvd.init(comm=world, process_sets=[one])
        assert one.ranks == sorted(half) and one.included() and one.process_set_id == 1 + world.rank % 2
        assert hvd.allreduce(torch.ones(1), op=hvd.Sum, process_set=one).item() == len(half)
        hvd.barrier()
        hvd.shutdown()
    hvd.init()


def hvd_size():
    return int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))


def check_end():
    hvd.shutdown()
    assert hvd.metrics()["size"] == hvd_size() and hvd.metrics()["operations"] > 0
    assert "horovod.torch" in sys.modules


main(checks_of(globals()))
