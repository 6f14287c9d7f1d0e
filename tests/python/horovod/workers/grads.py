"""The gradients of operations."""
import torch
from common import checks_of, hvd, main, values


def leaf(shape, seed=0):
    return values(hvd.rank(), torch.float32, shape, seed).requires_grad_()


def near(a, b):
    assert a.shape == b.shape and torch.allclose(a, b, atol=1e-5), (a, b)


def check_allreduce():
    for op in (hvd.Sum, hvd.Average):
        x = leaf((5, 3))
        weights = [values(r, torch.float32, (5, 3), 9) for r in range(hvd.size())]
        (hvd.allreduce(x, op=op, prescale_factor=2.0) * weights[hvd.rank()]).sum().backward()
        want = sum(weights) * 2.0
        near(x.grad, want / hvd.size() if op == hvd.Average else want)


def check_grouped_allreduce():
    xs = [leaf((i + 1, 2), i) for i in range(3)]
    outs = hvd.grouped_allreduce(xs, op=hvd.Sum)
    sum((o * (i + 1)).sum() for i, o in enumerate(outs)).backward()
    for i, x in enumerate(xs):
        near(x.grad, torch.full_like(x, float((i + 1) * hvd.size())))


def check_allgather():
    rows = [r + 1 for r in range(hvd.size())]
    x = leaf((rows[hvd.rank()], 2))
    weights = [values(r, torch.float32, (sum(rows), 2), 5) for r in range(hvd.size())]
    (hvd.allgather(x) * weights[hvd.rank()]).sum().backward()
    at = sum(rows[:hvd.rank()])
    near(x.grad, (sum(weights) / hvd.size())[at:at + rows[hvd.rank()]])
    xs = [leaf((2, i + 1), i) for i in range(2)]
    sum(o.sum() for o in hvd.grouped_allgather(xs)).backward()
    for x in xs:
        near(x.grad, torch.ones_like(x))


def check_broadcast():
    for root in range(hvd.size()):
        x = leaf((4,))
        (hvd.broadcast(x, root) * float(hvd.rank() + 1)).sum().backward()
        mean = sum(range(1, hvd.size() + 1)) / hvd.size()
        near(x.grad, torch.full((4,), mean if hvd.rank() == root else 0.0))


def check_alltoall():
    n, me = hvd.size(), hvd.rank()
    splits = [(me + to) % 2 + 1 for to in range(n)]
    x = leaf((sum(splits), 2))
    out, received = hvd.alltoall(x, splits)
    assert not received.requires_grad
    (out * float(me + 1)).sum().backward()
    want = torch.cat([torch.full((splits[to], 2), float(to + 1)) for to in range(n)])
    near(x.grad, want)
    x = leaf((n,))
    hvd.alltoall(x).sum().backward()
    near(x.grad, torch.ones(n))


def check_reducescatter():
    n = hvd.size()
    for op in (hvd.Sum, hvd.Average):
        x = leaf((n + 1, 2))
        out = hvd.reducescatter(x, op=op, prescale_factor=3.0)
        (out * float(hvd.rank() + 1)).sum().backward()
        rows = [(n + 1) // n + (r < (n + 1) % n) for r in range(n)]
        want = torch.cat([torch.full((rows[r], 2), float(r + 1)) for r in range(n)])
        near(x.grad, want * (3.0 * n if op == hvd.Sum else 3.0))


def check_no_grad_makes_no_graph():
    x = leaf((3,))
    with torch.no_grad():
        assert not hvd.allreduce(x).requires_grad
    assert hvd.allreduce(x).requires_grad


hvd.init()
main(checks_of(globals()))
