"""What the workers share: values that every rank knows of every rank, and a runner of checks."""
import sys
import traceback

import horovod.torch as hvd
import torch

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
INTS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
TYPES = FLOATS + INTS + [torch.bool]
TOLERANCE = {torch.float16: 1e-2, torch.bfloat16: 6e-2, torch.float32: 1e-5, torch.float64: 1e-12}
SHAPES = [(), (1,), (17,), (17, 17), (17, 17, 17), (0,), (5, 0, 3), (70001,)]


def values(rank, dtype, shape, seed=0):
    """What `rank` has of a tensor: random, but known everywhere."""
    g = torch.Generator().manual_seed(1000 * seed + rank + 1)
    if dtype is torch.bool:
        return torch.rand(shape, generator=g) < 0.5
    if dtype.is_floating_point:
        return (torch.rand(shape, generator=g, dtype=torch.float64) * 4 - 2).to(dtype)
    low = 0 if dtype is torch.uint8 else -20
    return torch.randint(low, 20, shape, generator=g, dtype=torch.int64).to(dtype)


def everyone(dtype, shape, seed=0, ranks=None):
    return [values(r, dtype, shape, seed) for r in (range(hvd.size()) if ranks is None else ranks)]


def same(a, b, scale=1.0):
    assert a.dtype == b.dtype and a.shape == b.shape, (a.dtype, a.shape, b.dtype, b.shape)
    if a.dtype in TOLERANCE:
        tolerance = TOLERANCE[a.dtype] * scale
        assert torch.allclose(a.double(), b.double(), rtol=tolerance, atol=tolerance * 4), (a.double() - b.double()).abs().max()
    else:
        assert torch.equal(a, b), (a, b)


def reduced(tensors, op):
    """What an allreduce of `tensors` has to give."""
    dtype = tensors[0].dtype
    if dtype is torch.bool:
        stack = torch.stack(tensors)
        return stack.any(0) if op in (hvd.Sum, hvd.Average, hvd.Max) else stack.all(0)
    if dtype.is_floating_point:
        stack = torch.stack([t.double() for t in tensors])
    else:
        stack = torch.stack([t.long() for t in tensors])
    if op == hvd.Sum:
        result = stack.sum(0)
    elif op == hvd.Average:
        result = stack.sum(0) / len(tensors) if dtype.is_floating_point else \
            torch.div(stack.sum(0).to(dtype).long(), len(tensors), rounding_mode="trunc")
    elif op == hvd.Min:
        result = stack.min(0)[0]
    elif op == hvd.Max:
        result = stack.max(0)[0]
    else:
        result = stack.prod(0)
    return result.to(dtype)


def raises(kind, call, *words):
    """`call` raises exactly `kind`, and says `words`."""
    try:
        call()
    except kind as e:
        assert type(e) is kind or kind is RuntimeError, type(e)
        for word in words:
            assert str(word) in str(e), "%r is not in: %s" % (word, e)
        return e
    raise AssertionError("%s was not raised" % kind.__name__)


def main(checks):
    """Run each check on every rank; the first failure ends the job."""
    for check in checks:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            print("FAILED %s" % check.__name__, flush=True)
            import os

            os._exit(1)
    print("passed %d checks" % len(checks), flush=True)


def checks_of(namespace):
    only = sys.argv[1:]
    return [f for name, f in namespace.items() if name.startswith("check_") and (not only or name in only)]
