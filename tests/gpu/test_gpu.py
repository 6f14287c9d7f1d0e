"""Real tensors on real GPUs: run by tests/gpu/run, on each rank.

    test_gpu.py apart|together CASE...      a GPU for each rank, or all on the first one

Prints `ok CASE` for each that held.
"""
import sys
import traceback

import horovod.torch as hvd
import torch
from horovod.common.basics import _basics

PLACE = torch.device("cpu")     # set by main()
WAY = ""                        # the engine's path that is expected

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
INTEGERS = (torch.uint8, torch.int8, torch.int32, torch.int64)


def by(way, call):
    """The result of `call`, which must have gone by that way."""
    before = _basics.engine().stats()["paths"][way]
    result = call()
    assert _basics.engine().stats()["paths"][way] > before, "not by %s" % way
    return result


def tensor_of(rank, shape, dtype):
    numbers = torch.arange(torch.Size(shape).numel(), dtype=torch.float64) % 7 + rank
    return numbers.reshape(shape).to(dtype)


def close(result, expected, dtype):
    assert result.device == PLACE and result.dtype == dtype, (result.device, result.dtype)
    slack = 0.03 if dtype in (torch.float16, torch.bfloat16) else 1e-5
    assert torch.allclose(result.cpu().double(), expected.double(), rtol=slack, atol=slack), (result, expected)


def test_sums():
    for dtype in FLOATS + INTEGERS:
        for n in (1, 1000, 100003):
            mine = tensor_of(hvd.rank(), (n,), dtype).to(PLACE)
            result = by(WAY, lambda: hvd.allreduce(mine, op=hvd.Sum))
            close(result, sum(tensor_of(r, (n,), dtype).double() for r in range(hvd.size())), dtype)


def test_averages_and_scales():
    for dtype in FLOATS:
        mine = tensor_of(hvd.rank(), (1000,), dtype).to(PLACE)
        mean = sum(tensor_of(r, (1000,), dtype).double() for r in range(hvd.size())) / hvd.size()
        close(by(WAY, lambda: hvd.allreduce(mine)), mean, dtype)
        close(by(WAY, lambda: hvd.allreduce(mine, prescale_factor=0.5, postscale_factor=4.0)), 2 * mean, dtype)


def test_min_max_product():
    mine = tensor_of(hvd.rank(), (1000,), torch.float32).to(PLACE)
    everyone = torch.stack([tensor_of(r, (1000,), torch.float32) for r in range(hvd.size())])
    close(hvd.allreduce(mine, op=hvd.Min), everyone.min(0).values, torch.float32)
    close(hvd.allreduce(mine, op=hvd.Max), everyone.max(0).values, torch.float32)
    close(hvd.allreduce(mine, op=hvd.Product), everyone.prod(0), torch.float32)


def test_what_nccl_cannot():
    mine = tensor_of(hvd.rank(), (1000,), torch.int16).to(PLACE)
    result = by("host", lambda: hvd.allreduce(mine, op=hvd.Sum))
    close(result, sum(tensor_of(r, (1000,), torch.int16).double() for r in range(hvd.size())), torch.int16)


def test_after_work_on_the_stream():
    """The engine waits for what the current stream does: a long one, and not the default."""
    stream = torch.cuda.Stream(PLACE)
    a = torch.ones(2000, 2000, device=PLACE)
    with torch.cuda.stream(stream):
        stream.wait_stream(torch.cuda.default_stream(PLACE))
        for _ in range(50):
            a = (a @ a) / 2000
        a = a + hvd.rank()
        result = hvd.allreduce(a, op=hvd.Sum)
        expected = hvd.size() + sum(range(hvd.size()))
    assert bool((result - expected).abs().max() < 1e-3)


def test_groups_and_hooks():
    tensors = [tensor_of(hvd.rank() + i, (1000 + i,), torch.float32).to(PLACE) for i in range(20)]
    for _ in range(3):
        handles = [hvd.allreduce_async(t, name="t%d" % i, op=hvd.Sum) for i, t in enumerate(tensors)]
        for i, handle in enumerate(handles):
            expected = sum(tensor_of(r + i, (1000 + i,), torch.float32) for r in range(hvd.size()))
            close(hvd.synchronize(handle), expected, torch.float32)
    for i, result in enumerate(hvd.grouped_allreduce(tensors, op=hvd.Sum)):
        close(result, sum(tensor_of(r + i, (1000 + i,), torch.float32) for r in range(hvd.size())), torch.float32)


def test_the_others():
    for dtype in (torch.float32, torch.bfloat16, torch.int16, torch.bool):
        rows = hvd.rank() + 1
        mine = tensor_of(hvd.rank(), (rows, 3), dtype).to(PLACE)
        everyone = torch.cat([tensor_of(r, (r + 1, 3), dtype) for r in range(hvd.size())])
        assert torch.equal(by(WAY, lambda: hvd.allgather(mine)).cpu(), everyone)
        root = tensor_of(hvd.size() - 1, (100,), dtype)
        result = by(WAY, lambda: hvd.broadcast(tensor_of(hvd.rank(), (100,), dtype).to(PLACE), hvd.size() - 1))
        assert torch.equal(result.cpu(), root) and result.device == PLACE
        mine = tensor_of(hvd.rank(), (hvd.size() * 2, 3), dtype).to(PLACE)
        result = by(WAY, lambda: hvd.alltoall(mine))
        at = 2 * hvd.rank()
        expected = torch.cat([tensor_of(r, (hvd.size() * 2, 3), dtype)[at:at + 2] for r in range(hvd.size())])
        assert torch.equal(result.cpu(), expected) and result.device == PLACE


def test_reducescatter():
    for rows in (hvd.size() * 4, hvd.size() * 4 + 1):
        mine = tensor_of(hvd.rank(), (rows, 5), torch.float32).to(PLACE)
        total = sum(tensor_of(r, (rows, 5), torch.float32) for r in range(hvd.size()))
        each, more = divmod(rows, hvd.size())
        first = each * hvd.rank() + min(hvd.rank(), more)
        result = by(WAY, lambda: hvd.reducescatter(mine, op=hvd.Sum))
        close(result, total[first:first + each + (hvd.rank() < more)], torch.float32)


def test_training():
    """A few steps with DistributedOptimizer: the same weights on all ranks."""
    torch.manual_seed(hvd.rank())
    model = torch.nn.Sequential(torch.nn.Linear(20, 50), torch.nn.ReLU(), torch.nn.Linear(50, 3)).to(PLACE)
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.randn(16, 20, device=PLACE)).pow(2).mean().backward()
        optimizer.step()
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    everyone = hvd.allgather(weights.reshape(1, -1))
    assert all(torch.equal(everyone[0], other) for other in everyone)


def test_mixed_devices():
    if hvd.size() < 2:
        return
    mine = torch.ones(10) if hvd.rank() == 0 else torch.ones(10, device=PLACE)
    try:
        hvd.allreduce(mine, name="mixed")
        raise AssertionError("a tensor on the CPU and one on a GPU were added")
    except hvd.HorovodInternalError as e:
        assert "GPU" in str(e)


def main(placing, cases):
    global PLACE, WAY

    hvd.init()
    PLACE = torch.device("cuda", hvd.local_rank() if placing == "apart" else 0)
    torch.cuda.set_device(PLACE)
    alone = placing == "apart" or hvd.size() == 1
    WAY = "nccl" if alone and hvd.nccl_built() else "host"
    bad = 0
    for case in cases:
        try:
            globals()[case]()
            sys.stdout.write("ok %s\n" % case)
            sys.stdout.flush()
        except Exception:
            traceback.print_exc()
            bad += 1
            break           # the other ranks may wait for this one
    hvd.shutdown()
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
