"""Every operation on every type, against what one process computes."""
import torch
from common import INTS, SHAPES, TYPES, checks_of, everyone, hvd, main, reduced, same, values


def check_allreduce_of_every_type():
    for dtype in TYPES:
        for i, shape in enumerate(SHAPES):
            for op in (hvd.Sum, hvd.Average, hvd.Min, hvd.Max, hvd.Product):
                mine = values(hvd.rank(), dtype, shape, i)
                if op == hvd.Product and not dtype.is_floating_point:
                    mine = mine % 3 if dtype is not torch.bool else mine
                    want = [t % 3 if dtype is not torch.bool else t for t in everyone(dtype, shape, i)]
                else:
                    want = everyone(dtype, shape, i)
                before = mine.clone()
                got = hvd.allreduce(mine, op=op)
                same(got, reduced(want, op), hvd.size())
                same(mine, before)
                assert hvd.allreduce_(mine, op=op, name="in.place") is mine
                same(mine, got)


def check_integers_are_cut_toward_zero():
    for dtype in (torch.int8, torch.int16, torch.int32, torch.int64):
        sum_of = [1 * k * sum(r + 1 for r in range(hvd.size())) for k in (1, 2, -3)]
        t = torch.tensor([1, 2, -3], dtype=dtype) * (hvd.rank() + 1)
        assert hvd.allreduce(t, op=hvd.Average).tolist() == [int(s / hvd.size()) for s in sum_of]
    # (1, 2, -3) x {1, 2} over two ranks is (1, 3, -4): the sums are 3, 6 and -9.
    big = torch.full((3,), 2 ** 53 + 1, dtype=torch.int64)
    assert hvd.allreduce(big, op=hvd.Sum).tolist() == [(2 ** 53 + 1) * hvd.size()] * 3


def check_scales():
    for dtype in (torch.float16, torch.float32, torch.float64, torch.int32, torch.int64):
        t = values(hvd.rank(), dtype, (50,))
        for pre, post in ((2.0, 1.0), (1.0, 3.0), (0.5, 2.0)):
            got = hvd.allreduce(t, op=hvd.Sum, prescale_factor=pre, postscale_factor=post)
            parts = [(x.double() * pre).to(dtype) if not dtype.is_floating_point else x.double() * pre for x in everyone(dtype, (50,))]
            want = sum(p.double() for p in parts) * post
            want = want.trunc().to(dtype) if not dtype.is_floating_point else want.to(dtype)
            same(got, want, 8 * hvd.size())


def check_async_in_any_order():
    names = ["t%d" % i for i in range(40)]
    order = sorted(range(40), key=lambda i: (i * 7919 + hvd.rank() * 31) % 41)
    for _ in range(3):
        handles = {i: hvd.allreduce_async(values(hvd.rank(), torch.float32, (i + 1,), i), name=names[i], op=hvd.Sum) for i in order}
        for i in reversed(order):
            same(hvd.synchronize(handles[i]), reduced(everyone(torch.float32, (i + 1,), i), hvd.Sum), 4)
    for i in order:
        assert hvd.synchronize(handles[i]) is None


def check_poll():
    t = torch.ones(1000)
    handle = hvd.allreduce_async_(t, name="polled", op=hvd.Sum)
    while not hvd.poll(handle):
        pass
    assert hvd.poll(handle) is True
    assert hvd.synchronize(handle) is t and t[0] == hvd.size()


def check_grouped():
    for op in (hvd.Sum, hvd.Average, hvd.Max):
        for types in ([torch.float32] * 5, [torch.float32, torch.int64, torch.float16, torch.float32, torch.int64]):
            mine = [values(hvd.rank(), t, (3, i + 1), i) for i, t in enumerate(types)]
            want = [reduced(everyone(t, (3, i + 1), i), op) for i, t in enumerate(types)]
            for got in (hvd.grouped_allreduce(mine, op=op), hvd.grouped_allreduce(mine, op=op, name="group"),
                        hvd.synchronize(hvd.grouped_allreduce_async(mine, op=op, name="group"))):
                for a, b in zip(got, want):
                    same(a, b, hvd.size())
            outs = hvd.grouped_allreduce_(mine, op=op)
            for a, b, c in zip(outs, want, mine):
                assert a is c
                same(a, b, hvd.size())


def check_compression():
    t = values(hvd.rank(), torch.float32, (300,))
    got = hvd.allreduce(t, op=hvd.Sum, compression=hvd.Compression.fp16)
    assert got.dtype is torch.float32
    assert torch.allclose(got, reduced(everyone(torch.float32, (300,)), hvd.Sum), atol=2e-2)
    ints = torch.arange(5)
    assert torch.equal(hvd.allreduce(ints, op=hvd.Sum, compression=hvd.Compression.fp16), ints * hvd.size())


def check_allgather():
    for dtype in TYPES:
        for shape in ((17,), (3, 5), (2, 3, 4)):
            rows = [r * 3 % 5 for r in range(hvd.size())]         # rank 0 has none
            parts = [values(r, dtype, (rows[r],) + shape[1:]) for r in range(hvd.size())]
            got = hvd.allgather(parts[hvd.rank()], name="rows")
            same(got, torch.cat(parts))
        whole = hvd.allgather(values(hvd.rank(), dtype, (4, 2)))
        same(whole, torch.cat(everyone(dtype, (4, 2))))
    assert hvd.allgather(torch.empty(0, 3)).shape == (0, 3)
    lists = hvd.grouped_allgather([values(hvd.rank(), torch.float32, (hvd.rank() + i, 2), i) for i in range(3)], name="many")
    for i, got in enumerate(lists):
        same(got, torch.cat([values(r, torch.float32, (r + i, 2), i) for r in range(hvd.size())]))


def check_gathered_memory_lives_as_long_as_its_tensor():
    views = []
    for i in range(50):
        views.append(hvd.allgather(torch.full((1000,), float(i)))[500:600])
    assert all(v.eq(float(i)).all() for i, v in enumerate(views))


def check_broadcast():
    for dtype in TYPES:
        for root in range(hvd.size()):
            for i, shape in enumerate(SHAPES):
                mine = values(hvd.rank(), dtype, shape, i)
                got = hvd.broadcast(mine, root)
                same(got, values(root, dtype, shape, i))
                same(mine, values(hvd.rank(), dtype, shape, i))
                assert hvd.broadcast_(mine, root, name="b") is mine
                same(mine, got)
    handle = hvd.broadcast_async(torch.tensor([hvd.rank()]), hvd.size() - 1)
    assert hvd.synchronize(handle).item() == hvd.size() - 1


def check_alltoall():
    n, me = hvd.size(), hvd.rank()
    for dtype in TYPES:
        got = hvd.alltoall(values(me, dtype, (n * 2, 3)))
        same(got, torch.cat([x[me * 2:me * 2 + 2] for x in everyone(dtype, (n * 2, 3))]))
        splits = [[(r + to) % 3 for to in range(n)] for r in range(n)]
        mine = values(me, dtype, (sum(splits[me]) + 1, 2))[:sum(splits[me])]
        want = []
        for r in range(n):
            at = sum(splits[r][:me])
            want.append(values(r, dtype, (sum(splits[r]) + 1, 2))[at:at + splits[r][me]])
        for given in (splits[me], torch.tensor(splits[me], dtype=torch.int32)):
            out, received = hvd.alltoall(mine, given)
            same(out, torch.cat(want))
            assert received.dtype is torch.int32 and received.tolist() == [splits[r][me] for r in range(n)]
    out, received = hvd.synchronize(hvd.alltoall_async(torch.arange(n), name="pair"))
    assert out.tolist() == [me] * n and received.tolist() == [1] * n
    out, received = hvd.alltoall(torch.zeros(0, 4), [0] * n)
    assert out.shape == (0, 4) and received.tolist() == [0] * n


def check_reducescatter():
    n, me = hvd.size(), hvd.rank()
    for dtype in TYPES:
        for op in (hvd.Sum, hvd.Average):
            for rows in (n, 3, 4 * n + 1, 1, 0):
                each = [rows // n + (r < rows % n) for r in range(n)]
                whole = reduced(everyone(dtype, (rows, 5)), op)
                got = hvd.reducescatter(values(me, dtype, (rows, 5)), op=op)
                same(got, whole[sum(each[:me]):sum(each[:me + 1])], n)
    handle = hvd.grouped_reducescatter_async([torch.full((n, i + 1), float(me)) for i in range(3)], op=hvd.Sum, name="rs")
    for i, got in enumerate(hvd.synchronize(handle)):
        assert got.shape == (1, i + 1) and got.eq(sum(range(n))).all()
    got = hvd.reducescatter(torch.ones(n), op=hvd.Sum, prescale_factor=2.0, postscale_factor=3.0)
    assert got.item() == 6.0 * n


def check_sparse():
    n, me = hvd.size(), hvd.rank()
    for op in (hvd.Sum, hvd.Average):
        t = torch.sparse_coo_tensor(torch.tensor([[0, me + 1], [1, 0]]), torch.tensor([1.0, me + 2.0]), (n + 1, 2))
        got = hvd.sparse_allreduce_async(t, name="sparse", op=op)()
        want = torch.zeros(n + 1, 2)
        for r in range(n):
            want[0, 1] += 1.0
            want[r + 1, 0] += r + 2.0
        assert torch.allclose(got.to_dense(), want / (n if op == hvd.Average else 1))


def check_adasum():
    n = hvd.size()
    if n & (n - 1):
        try:
            hvd.allreduce(torch.ones(3), op=hvd.Adasum)
        except NotImplementedError:
            return
        raise AssertionError("Adasum on %d ranks was accepted" % n)
    # Equal gradients are averaged, orthogonal ones are added.
    got = hvd.allreduce(torch.full((9,), 3.0), op=hvd.Adasum)
    assert torch.allclose(got, torch.full((9,), 3.0))
    mine = torch.zeros(n)
    mine[hvd.rank()] = 2.0
    assert torch.allclose(hvd.allreduce(mine, op=hvd.Adasum), torch.full((n,), 2.0))


def check_large():
    t = torch.full((3 << 20,), float(hvd.rank() + 1))
    hvd.allreduce_(t, op=hvd.Sum)
    assert t.eq(sum(range(1, hvd.size() + 1))).all()


def check_small_ints_wrap():
    for dtype in INTS:
        t = torch.full((10,), torch.iinfo(dtype).max, dtype=dtype)
        same(hvd.allreduce(t, op=hvd.Sum), reduced([t] * hvd.size(), hvd.Sum))


hvd.init()
main(checks_of(globals()))
