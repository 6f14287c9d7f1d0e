"""What DistributedOptimizer has to do, as functions that each rank calls; see launch.py."""
import copy
import os
import pickle
import warnings

import torch
import torch.nn.functional as F

import horovod.torch as hvd

STEPS = 4


def raises(kind, text, function, *args, **kwargs):
    """`function` must raise `kind` with `text` in its message."""
    try:
        function(*args, **kwargs)
    except kind as e:
        assert text in str(e), "%r is not in %r" % (text, str(e))
        return
    raise AssertionError("%s was not raised" % kind.__name__)


def net(dtype=torch.float32):
    torch.manual_seed(11)
    model = torch.nn.Sequential(torch.nn.Linear(6, 12), torch.nn.Tanh(), torch.nn.Linear(12, 7), torch.nn.Tanh(),
                                torch.nn.Linear(7, 3))
    return model.to(dtype)


def batch(step, dtype=torch.float32, each=3):
    """The samples of all ranks, and this rank's part of them."""
    make = torch.Generator().manual_seed(100 + step)
    n = hvd.size()
    x = torch.randn(each * n, 6, generator=make).to(dtype)
    y = torch.randn(each * n, 3, generator=make).to(dtype)
    return x, y, x[hvd.rank()::n], y[hvd.rank()::n]


def same(model, reference, tolerance=1e-5):
    for (name, a), b in zip(model.named_parameters(), reference.parameters()):
        assert torch.allclose(a, b, rtol=tolerance, atol=tolerance), "%s differs by %g" % (name, (a - b).abs().max())


def train_once(step, model, optimizer, reference, plain):
    """One step of both: the ranks on their parts of a batch, the reference on all of it."""
    x, y, mine_x, mine_y = batch(step)
    optimizer.zero_grad()
    F.mse_loss(model(mine_x), mine_y).backward()
    optimizer.step()
    plain.zero_grad()
    F.mse_loss(reference(x), y).backward()
    plain.step()


def train_both(make, dtype=torch.float32, steps=STEPS, tolerance=1e-5, zero=None, **options):
    """Train on parts with a distributed optimizer and on the whole without; the models must stay equal."""
    model, reference = net(dtype), net(dtype)
    optimizer = hvd.DistributedOptimizer(make(model.parameters()), named_parameters=model.named_parameters(), **options)
    plain = make(reference.parameters())
    for step in range(steps):
        x, y, mine_x, mine_y = batch(step, dtype)
        if zero:
            zero(model, optimizer)
        else:
            optimizer.zero_grad()
        F.mse_loss(model(mine_x), mine_y).backward()
        optimizer.step()
        plain.zero_grad()
        F.mse_loss(reference(x), y).backward()
        plain.step()
        same(model, reference, tolerance)
    return model, optimizer


def sgd(params):
    return torch.optim.SGD(params, lr=0.1, momentum=0.9, weight_decay=1e-3)


# ---- the reduction ----

def sgd_equals_one_process():
    train_both(sgd)


def adam_equals_one_process():
    train_both(lambda p: torch.optim.Adam(p, lr=0.01), tolerance=2e-4)


def doubles_equal_one_process():
    train_both(sgd, dtype=torch.float64, tolerance=1e-10)


def two_parameter_groups():
    def make(params):
        params = list(params)
        return torch.optim.SGD([{"params": params[:2]}, {"params": params[2:], "lr": 0.01}], lr=0.1)
    train_both(make)


def sum_is_the_average_times_size():
    model, reference = net(), net()
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1 / hvd.size()), op=hvd.Sum)
    plain = torch.optim.SGD(reference.parameters(), lr=0.1)
    for step in range(STEPS):
        train_once(step, model, optimizer, reference, plain)
    same(model, reference)


def predivide():
    train_both(sgd, gradient_predivide_factor=2.0 * hvd.size())


def predivide_in_groups():
    train_both(sgd, gradient_predivide_factor=3.0, groups=2)


def groups_by_number():
    for count in (1, 2, 5, 100):
        train_both(sgd, steps=2, groups=count)


def groups_by_list():
    model, reference = net(), net()
    p = list(model.parameters())
    optimizer = hvd.DistributedOptimizer(sgd(p), model.named_parameters(), groups=[[p[0], p[4]], [p[3]]])
    plain = sgd(reference.parameters())
    for step in range(STEPS):
        train_once(step, model, optimizer, reference, plain)
        same(model, reference)


def groups_of_two_dtypes():
    a, b = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(5, dtype=torch.float64))
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD([a, b], lr=1.0), [("a", a), ("b", b)], groups=[[a, b]])
    ((a * (hvd.rank() + 1)).sum() + (b * hvd.rank()).sum().float()).backward()
    optimizer.step()
    mean = (hvd.size() - 1) / 2
    assert torch.allclose(a, torch.full((3,), -mean)) and torch.allclose(b, torch.full((5,), 1 - mean).double())


def number_of_groups_by_its_old_name():
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        train_both(sgd, steps=2, num_groups=2)
    assert any(issubclass(w.category, DeprecationWarning) and "num_groups" in str(w.message) for w in told)


def half_precision_on_the_way():
    train_both(sgd, compression=hvd.Compression.fp16, tolerance=1e-2)
    train_both(sgd, compression=hvd.Compression.fp16, groups=2, tolerance=1e-2)


def compression_of_the_user():
    class Doubled:
        calls = [0, 0]

        @staticmethod
        def compress(tensor):
            Doubled.calls[0] += 1
            return tensor * 2, "context"

        @staticmethod
        def decompress(tensor, context):
            assert context == "context"
            Doubled.calls[1] += 1
            return tensor / 2

    model, _ = train_both(sgd, compression=Doubled)
    wanted = STEPS * len(list(model.parameters())) if hvd.size() > 1 else 0
    assert Doubled.calls == [wanted, wanted], Doubled.calls


def half_precision_parameters():
    for dtype in (torch.float16, torch.bfloat16):
        p = torch.nn.Parameter(torch.zeros(70, dtype=dtype))
        optimizer = hvd.DistributedOptimizer(torch.optim.SGD([p], lr=1.0), [("p.%s" % dtype, p)])
        (p * (hvd.rank() + 1)).sum().backward()
        optimizer.step()
        assert torch.equal(p.detach(), torch.full((70,), -(hvd.size() + 1) / 2, dtype=dtype)), p


def layouts_of_memory():
    """Parameters that are not contiguous have gradients that are not; channels_last is the usual case."""
    torch.manual_seed(5)
    conv = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)
    turned = torch.nn.Parameter(torch.randn(3, 5).t())
    x = torch.randn(2, 3, 6, 6)
    params = [("turned", turned)] + list(conv.named_parameters())
    for compression in (hvd.Compression.none, hvd.Compression.fp16):
        optimizer = hvd.DistributedOptimizer(torch.optim.SGD([p for _, p in params], lr=1.0), params,
                                             compression=compression)
        for _ in range(2):
            optimizer.zero_grad()
            scale = hvd.rank() + 1.0
            loss = lambda c, t: c(x).sum() + (t * torch.arange(15.0).view(5, 3)).sum()
            alone, turned_alone = copy.deepcopy(conv), turned.detach().clone().requires_grad_()
            loss(alone, turned_alone).backward()
            (scale * loss(conv, turned)).backward()
            optimizer.synchronize()
            mean = (hvd.size() + 1) / 2
            for p, q in zip([turned] + list(conv.parameters()), [turned_alone] + list(alone.parameters())):
                assert torch.allclose(p.grad, q.grad * mean, rtol=2e-3, atol=2e-2), (p.grad, q.grad)


def sparse_gradients():
    for as_dense in (False, True):
        for op in (hvd.Average, hvd.Sum):
            torch.manual_seed(3)
            table = torch.nn.Embedding(10, 4, sparse=True)
            start = table.weight.detach().clone()
            optimizer = hvd.DistributedOptimizer(torch.optim.SGD(table.parameters(), lr=1.0),
                                                 table.named_parameters(), sparse_as_dense=as_dense, op=op)
            for _ in range(2):
                optimizer.zero_grad()
                table(torch.tensor([hvd.rank(), hvd.rank(), 9])).sum().backward()
                optimizer.step()
            wanted = torch.zeros(10, 4)
            for rank in range(hvd.size()):
                wanted[rank] += 2
                wanted[9] += 1
            wanted /= hvd.size() if op == hvd.Average else 1
            assert torch.allclose(table.weight, start - 2 * wanted), (as_dense, op)


def a_sparse_gradient_missing_on_one_rank():
    table = torch.nn.Embedding(6, 2, sparse=True)
    torch.nn.init.ones_(table.weight)
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(table.parameters(), lr=1.0), table.named_parameters())
    table(torch.tensor([1])).sum().backward()
    optimizer.step()
    for p in table.parameters():
        p.grad = None
    if hvd.rank() > 0 or hvd.size() == 1:
        table(torch.tensor([2])).sum().backward()
    optimizer.step()
    given = max(1, hvd.size() - 1) / hvd.size()
    wanted = torch.tensor([[0.0, 0.0], [1 - given, 1 - given]])
    assert torch.allclose(table.weight[1:3], wanted, atol=1e-6), table.weight


# ---- which gradients ----

class Branches(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.common, self.left, self.right, self.unused = (torch.nn.Linear(4, 4) for _ in range(4))

    def forward(self, x, left):
        x = torch.tanh(self.common(x))
        return (self.left if left else self.right)(x)


def parameters_unused_on_a_rank():
    for groups in (None, 2):
        model, reference = Branches(), Branches()
        optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters(),
                                             groups=groups)
        plain = torch.optim.SGD(reference.parameters(), lr=0.1)
        for step in range(STEPS):
            x = torch.randn(hvd.size(), 2, 4, generator=torch.Generator().manual_seed(step))
            optimizer.zero_grad()
            model(x[hvd.rank()], (hvd.rank() + step) % 2 == 0).sum().backward()
            optimizer.step()
            plain.zero_grad()
            sum(reference(x[r], (r + step) % 2 == 0).sum() for r in range(hvd.size())).div(hvd.size()).backward()
            plain.step()
            same(model, reference)


def a_rank_without_any_gradient():
    model, reference = net(), net()
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters())
    plain = torch.optim.SGD(reference.parameters(), lr=0.1)
    for step in range(STEPS):
        x, y, mine_x, mine_y = batch(step)
        optimizer.zero_grad()
        if hvd.rank() == step % hvd.size():
            F.mse_loss(model(mine_x), mine_y).backward()
        optimizer.step()
        plain.zero_grad()
        first = step % hvd.size()
        (F.mse_loss(reference(x[first::hvd.size()]), y[first::hvd.size()]) / hvd.size()).backward()
        plain.step()
        same(model, reference)


def frozen_parameters():
    """A frozen parameter is not moved, by momentum neither, and is reduced again when it is unfrozen."""
    model, reference = net(), net()
    model[0].weight.requires_grad_(False)
    reference[0].weight.requires_grad_(False)
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters())
    plain = sgd(reference.parameters())
    for step in range(8):
        if step == 3:
            model[0].weight.requires_grad_(True)
            reference[0].weight.requires_grad_(True)
        if step == 5:
            for m in (model, reference):
                m[2].weight.requires_grad_(False)
                m[2].weight.grad = None
        x, y, mine_x, mine_y = batch(step)
        for o in (plain, optimizer):
            for group in o.param_groups:
                for p in group["params"]:
                    p.grad = None
        F.mse_loss(model(mine_x), mine_y).backward()
        optimizer.step()
        F.mse_loss(reference(x), y).backward()
        plain.step()
        same(model, reference)


def parameters_added_later():
    model, reference = net(), net()
    rest = lambda m: [p for layer in m[2:] for p in layer.parameters()]
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(rest(model), lr=0.1))
    plain = torch.optim.SGD(rest(reference), lr=0.1)
    for step in range(STEPS):
        if step == 2:
            optimizer.add_param_group({"params": list(model[0].parameters()), "lr": 0.05})
            plain.add_param_group({"params": list(reference[0].parameters()), "lr": 0.05})
        train_once(step, model, optimizer, reference, plain)
        same(model, reference)
    names = list(optimizer._parameter_names.values())
    assert len(set(names)) == len(names) == 6, names


def passes_are_added_up():
    model, reference = net(), net()
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters(),
                                         backward_passes_per_step=2)
    plain = torch.optim.SGD(reference.parameters(), lr=0.1)
    for step in range(STEPS):
        optimizer.zero_grad()
        plain.zero_grad()
        if step == 2:
            optimizer.set_backward_passes_per_step(3)
        for i in range(3 if step >= 2 else 2):
            x, y, mine_x, mine_y = batch(10 * step + i)
            F.mse_loss(model(mine_x), mine_y).backward()
            F.mse_loss(reference(x), y).backward()
        optimizer.step()
        plain.step()
        same(model, reference)


def a_step_before_all_passes():
    model, reference = net(), net()
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters(),
                                         backward_passes_per_step=3)
    x, y, mine_x, mine_y = batch(0)
    F.mse_loss(model(mine_x), mine_y).backward()
    optimizer.step()
    F.mse_loss(reference(x), y).backward()
    torch.optim.SGD(reference.parameters(), lr=0.1).step()
    same(model, reference)


def too_many_passes():
    model = net()
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters())
    _, _, x, y = batch(0)
    F.mse_loss(model(x), y).backward()
    raises(AssertionError, "backward_passes_per_step", lambda: F.mse_loss(model(x), y).backward())
    optimizer.synchronize()
    optimizer.zero_grad()


def gradients_that_need_gradients():
    model = net()
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters())
    _, _, x, y = batch(0)
    raises(AssertionError, "create_graph", lambda: F.mse_loss(model(x), y).backward(create_graph=True))
    for p in model.parameters():
        p.grad = None
    optimizer.synchronize()


# ---- zero_grad and the arena ----

def zero_grad_in_all_its_forms():
    train_both(sgd, zero=lambda m, o: o.zero_grad(set_to_none=True))
    train_both(sgd, zero=lambda m, o: o.zero_grad(False))
    train_both(sgd, zero=lambda m, o: m.zero_grad())
    train_both(sgd, zero=lambda m, o: m.zero_grad(set_to_none=True))
    train_both(sgd, zero=lambda m, o: [p.grad.zero_() for p in m.parameters() if p.grad is not None])


def gradients_stay_in_the_arena():
    from horovod.torch import arena
    model, optimizer = train_both(sgd)
    at = [p.grad.data_ptr() for p in model.parameters()]
    assert all(a % arena.ALIGN == 0 for a in at)
    assert at == sorted(at, reverse=True), "the order is not that of backward"
    for zero in (lambda: optimizer.zero_grad(set_to_none=True), lambda: optimizer.zero_grad(set_to_none=False),
                 lambda: model.zero_grad(set_to_none=True)):
        zero()
        assert all(p.grad is None or not p.grad.any() for p in model.parameters())
        _, _, x, y = batch(0)
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        assert at == [p.grad.data_ptr() for p in model.parameters()]


def gradients_that_look_elsewhere():
    """`p.grad.data = x` takes the view out of the arena; what counts is what it looks at then."""
    model, optimizer = train_both(sgd)
    for _ in range(2):
        optimizer.zero_grad()
        for p in model.parameters():
            if p.grad is not None:
                p.grad.data = torch.full_like(p, 7.0)
        optimizer.zero_grad()
        assert not any(p.grad.any() for p in model.parameters() if p.grad is not None)
        for p in model.parameters():
            (p * (hvd.rank() + 1)).sum().backward()
        optimizer.synchronize()
        assert all(torch.allclose(p.grad, torch.full_like(p, (hvd.size() + 1) / 2)) for p in model.parameters())
        for p in model.parameters():
            p.grad.data = torch.full_like(p, 3.0 + hvd.rank())
        optimizer.synchronize()
        wanted = 3 + (hvd.size() - 1) / 2
        assert all(torch.allclose(p.grad, torch.full_like(p, wanted)) for p in model.parameters())
    optimizer.zero_grad()


def parameters_without_elements():
    p, q = torch.nn.Parameter(torch.ones(0, 3)), torch.nn.Parameter(torch.ones(()))
    for groups in (None, 1):
        optimizer = hvd.DistributedOptimizer(torch.optim.SGD([p, q], lr=1.0), [("empty", p), ("scalar", q)], groups=groups)
        optimizer.zero_grad()
        start = q.item()
        (p.sum() + q * (hvd.rank() + 1)).backward()
        optimizer.step()
        assert p.grad.shape == (0, 3) and abs(q.item() - (start - (hvd.size() + 1) / 2)) < 1e-6


def the_arena_can_be_turned_off():
    os.environ["HOROVOD_GRADIENT_ARENA"] = "0"
    try:
        model, optimizer = train_both(sgd)
        optimizer.zero_grad(set_to_none=True)
        assert all(p.grad is None for p in model.parameters())
    finally:
        del os.environ["HOROVOD_GRADIENT_ARENA"]


def a_model_that_changes_its_type():
    model, optimizer = train_both(sgd, steps=1)
    model.double()
    for p in model.parameters():
        p.grad = None
    (sum(p.sum() for p in model.parameters()) * (hvd.rank() + 1)).backward()
    optimizer.synchronize()
    for p in model.parameters():
        assert torch.equal(p.grad, torch.full_like(p, (hvd.size() + 1) / 2))


def zero_grad_too_early():
    model = net()
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters())
    _, _, x, y = batch(0)
    F.mse_loss(model(x), y).backward()
    raises(AssertionError, "zero_grad", optimizer.zero_grad)
    optimizer.step()
    optimizer.zero_grad()


# ---- synchronize and step ----

def synchronize_clip_and_step():
    model, reference = net(), net()
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters())
    plain = sgd(reference.parameters())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(STEPS):
            x, y, mine_x, mine_y = batch(step)
            optimizer.zero_grad()
            F.mse_loss(model(mine_x), mine_y).backward()
            optimizer.synchronize()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1)
            with optimizer.skip_synchronize():
                optimizer.step()
            plain.zero_grad()
            F.mse_loss(reference(x), y).backward()
            torch.nn.utils.clip_grad_norm_(reference.parameters(), 0.1)
            plain.step()
            same(model, reference)


def a_warning_when_reduced_twice():
    model = net()
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters())
    _, _, x, y = batch(0)
    F.mse_loss(model(x), y).backward()
    optimizer.synchronize()
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        optimizer.step()
    assert len(told) == 1 and "optimizer.step() called without optimizer.skip_synchronize()" in str(told[0].message)


def closures_see_reduced_gradients():
    model, reference = net(), net()
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters())
    plain = sgd(reference.parameters())
    for step in range(STEPS):
        x, y, mine_x, mine_y = batch(step)

        def closure(o, m, a, b):
            o.zero_grad()
            loss = F.mse_loss(m(a), b)
            loss.backward()
            return loss
        mine = optimizer.step(lambda: closure(optimizer, model, mine_x, mine_y))
        whole = plain.step(lambda: closure(plain, reference, x, y))
        assert torch.allclose(hvd.allreduce(mine.detach(), name="loss"), whole, rtol=1e-4)
        same(model, reference)


def lbfgs():
    make = lambda p: torch.optim.LBFGS(p, lr=0.5, max_iter=6, line_search_fn="strong_wolfe")
    model, reference = net(torch.float64), net(torch.float64)
    optimizer = hvd.DistributedOptimizer(make(model.parameters()), model.named_parameters())
    plain = make(reference.parameters())
    x, y, mine_x, mine_y = batch(0, torch.float64)

    def closure(o, m, a, b):
        o.zero_grad()
        loss = F.mse_loss(m(a), b)
        loss.backward()
        return loss
    for _ in range(2):
        optimizer.step(lambda: closure(optimizer, model, mine_x, mine_y))
        plain.step(lambda: closure(plain, reference, x, y))
        same(model, reference, 1e-6)


# ---- arguments and names ----

def wrong_arguments():
    model = net()
    make = lambda **options: hvd.DistributedOptimizer(sgd(model.parameters()), **options)
    named = list(model.named_parameters())
    raises(ValueError, "tuples", make, named_parameters=list(model.parameters()))
    raises(ValueError, "Found duplicates: same", make, named_parameters=[("same", p) for p in model.parameters()])
    raises(ValueError, "were not named", make, named_parameters=named[1:])
    raises(ValueError, "gradient_predivide_factor", make, gradient_predivide_factor=2.0, op=hvd.Sum)
    raises(ValueError, "groups", make, groups=-1)
    raises(ValueError, "groups", make, groups="two")
    raises(ValueError, "torch.Tensor", make, groups=[["a"]])
    raises(ValueError, "only appear once", make, groups=[[named[0][1]], [named[1][1], named[0][1]]])
    raises(ValueError, "backward_passes_per_step", make, backward_passes_per_step=0)
    raises(ValueError, "already", hvd.DistributedOptimizer, make())


def names():
    model = net()
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()))
    assert len(set(optimizer._parameter_names.values())) == 6
    assert optimizer._parameter_names[model[2].weight] == "allreduce.noname.0.2"
    optimizer = hvd.DistributedOptimizer(sgd(model.parameters()), named_parameters=model.named_parameters())
    assert optimizer._parameter_names[model[2].weight] == "2.weight"


def it_is_the_optimizer_of_the_user():
    class Mine(torch.optim.SGD):
        def __init__(self, params, needed, lr):
            super().__init__(params, lr=lr)
            self.needed = needed

    model = net()
    mine = Mine(model.parameters(), "x", lr=0.5)
    optimizer = hvd.DistributedOptimizer(mine, model.named_parameters())
    assert isinstance(optimizer, Mine) and type(optimizer).__name__ == "Mine" and optimizer.needed == "x"
    assert optimizer.param_groups[0] is mine.param_groups[0]
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1)
    _, _, x, y = batch(0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        F.mse_loss(model(x), y).backward()
        optimizer.step()
        scheduler.step()
    assert abs(optimizer.param_groups[0]["lr"] - 0.05) < 1e-9 and abs(mine.param_groups[0]["lr"] - 0.05) < 1e-9


def state_goes_in_and_out():
    model, optimizer = train_both(sgd)
    saved = copy.deepcopy(optimizer.state_dict())
    plain = sgd(net().parameters())
    assert saved["param_groups"] == sgd(model.parameters()).state_dict()["param_groups"] and len(saved["state"]) == 6
    plain.load_state_dict(copy.deepcopy(saved))
    optimizer.load_state_dict(copy.deepcopy(plain.state_dict()))     # torch may share the tensors
    x, y, mine_x, mine_y = batch(9)
    reference = net()
    reference.load_state_dict(model.state_dict())
    plain = sgd(reference.parameters())
    plain.load_state_dict(copy.deepcopy(saved))
    optimizer.zero_grad()
    F.mse_loss(model(mine_x), mine_y).backward()
    optimizer.step()
    F.mse_loss(reference(x), y).backward()
    plain.step()
    same(model, reference)
    for other in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        assert type(other) is torch.optim.SGD and len(other.state_dict()["state"]) == 6


def a_state_from_before_is_kept():
    model = net()
    mine = sgd(model.parameters())
    F.mse_loss(model(torch.ones(1, 6)), torch.ones(1, 3)).backward()
    mine.step()
    assert len(hvd.DistributedOptimizer(mine, model.named_parameters()).state_dict()["state"]) == 6


def a_model_wrapped_again():
    model, optimizer = train_both(sgd)
    del optimizer
    reference = net()
    reference.load_state_dict(model.state_dict())
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), model.named_parameters())
    plain = torch.optim.SGD(reference.parameters(), lr=0.1)
    x, y, mine_x, mine_y = batch(0)
    optimizer.zero_grad()
    F.mse_loss(model(mine_x), mine_y).backward()
    optimizer.step()
    F.mse_loss(reference(x), y).backward()
    plain.step()
    same(model, reference)


def broadcasts_go_with_it():
    torch.manual_seed(hvd.rank())
    model = torch.nn.Linear(4, 3)
    optimizer = hvd.DistributedOptimizer(torch.optim.Adam(model.parameters(), lr=0.1 * (1 + hvd.rank())),
                                         model.named_parameters())
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    assert abs(optimizer.param_groups[0]["lr"] - 0.1) < 1e-9
    for _ in range(2):
        optimizer.zero_grad()
        model(torch.full((1, 4), float(hvd.rank()))).sum().backward()
        optimizer.step()
    every = hvd.allgather(model.weight.detach().view(1, -1), name="weights")
    assert all(torch.equal(row, every[0]) for row in every)


def process_sets():
    members = [0, hvd.size() - 1]
    part = hvd.add_process_set(members) if len(members) < hvd.size() else hvd.global_process_set
    for options in ({}, {"groups": 1}):
        p, q = torch.nn.Parameter(torch.zeros(3)), torch.nn.Parameter(torch.zeros(2))
        optimizer = hvd.DistributedOptimizer(torch.optim.SGD([p, q], lr=1.0), [("set.p", p), ("set.q", q)],
                                             process_set=part, **options)
        ((p.sum() + q.sum()) * (hvd.rank() + 1)).backward()
        optimizer.step()
        mean = (1 + hvd.size()) / 2 if hvd.rank() in members else hvd.rank() + 1
        assert torch.equal(p.detach(), torch.full((3,), -mean)) and torch.equal(q.detach(), torch.full((2,), -mean))
    if part is not hvd.global_process_set:
        hvd.remove_process_set(part)


# ---- errors, and a new start ----

def goes_on_after_a_mismatch():
    wrong = torch.nn.Parameter(torch.ones(3 + hvd.rank()))
    right = torch.nn.Parameter(torch.ones(4))
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD([wrong, right], lr=1.0), [("wrong", wrong), ("right", right)])
    (wrong.sum() + right.sum()).backward()
    raises(hvd.HorovodInternalError, "", optimizer.step)
    optimizer.zero_grad()
    del optimizer
    train_both(sgd, steps=2)


def goes_on_after_a_new_start():
    model, optimizer = train_both(sgd)
    before = [p.grad.clone() for p in model.parameters()]
    hvd.shutdown()
    assert all(torch.equal(p.grad, b) for p, b in zip(model.parameters(), before)), "gradients were lost"
    hvd.init()
    reference = net()
    reference.load_state_dict(model.state_dict())
    plain = sgd(reference.parameters())
    plain.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for step in range(STEPS):
        train_once(step, model, optimizer, reference, plain)
        same(model, reference)


# ---- Adasum ----

def adasum_of(vectors):
    """By its definition, in pairs; the ranks r and r + half are combined last."""
    if len(vectors) == 1:
        return vectors[0]
    a, b = adasum_of(vectors[0::2]), adasum_of(vectors[1::2])
    dot = (a * b).sum()
    return (1 - dot / (2 * (a * a).sum())) * a + (1 - dot / (2 * (b * b).sum())) * b


def adasum_of_equal_steps():
    """Equal gradients on all ranks: training is that of one rank, whatever the optimizer."""
    for make in (sgd, lambda p: torch.optim.Adam(p, lr=0.01)):
        model, reference = net(), net()
        optimizer = hvd.DistributedOptimizer(make(model.parameters()), model.named_parameters(), op=hvd.Adasum)
        plain = make(reference.parameters())
        for step in range(STEPS):
            x, y, _, _ = batch(step)
            for o, m in ((optimizer, model), (plain, reference)):
                o.zero_grad()
                F.mse_loss(m(x), y).backward()
                o.step()
            same(model, reference, 1e-4)


def adasum_of_different_steps():
    p = torch.nn.Parameter(torch.zeros(5))
    grads = [torch.randn(5, generator=torch.Generator().manual_seed(r)) for r in range(hvd.size())]
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD([p], lr=0.5), [("p", p)], op=hvd.Adasum)
    (p * grads[hvd.rank()]).sum().backward()
    assert torch.equal(p.detach(), torch.zeros(5)) or hvd.size() == 1, "the parameter moved before step()"
    optimizer.step()
    assert torch.allclose(p, adasum_of([-0.5 * g for g in grads]), atol=1e-5)


def adasum_with_passes_and_missing_gradients():
    p, q = torch.nn.Parameter(torch.zeros(5)), torch.nn.Parameter(torch.ones(2))
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD([p, q], lr=0.5), [("p", p), ("q", q)], op=hvd.Adasum,
                                         backward_passes_per_step=2, compression=hvd.Compression.fp16)
    for _ in range(2):
        p.sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    assert torch.allclose(p, torch.full((5,), -1.0), atol=1e-2) and torch.equal(q.detach(), torch.ones(2))


def adasum_refuses():
    model = net()
    make = lambda **options: hvd.DistributedOptimizer(sgd(model.parameters()), model.named_parameters(), op=hvd.Adasum, **options)
    optimizer = make()

    def skip():
        with optimizer.skip_synchronize():
            pass
    raises(AssertionError, "not supported", skip)
    raises(NotImplementedError, "process sets", make, process_set=hvd.ProcessSet([0]))
    optimizer.synchronize()
    _, _, x, y = batch(0)
    F.mse_loss(model(x), y).backward()
    raises(AssertionError, "zero_grad", optimizer.zero_grad)
    raises(AssertionError, "backward_passes_per_step", lambda: F.mse_loss(model(x), y).backward())
    optimizer.step()


# ---- SyncBatchNorm ----

def _norms(shape, counts, dtype=torch.float32, **options):
    """Compare SyncBatchNorm on parts with BatchNorm on the whole, for two steps."""
    kind = {2: torch.nn.BatchNorm1d, 3: torch.nn.BatchNorm1d, 4: torch.nn.BatchNorm2d, 5: torch.nn.BatchNorm3d}
    channels = shape[0]
    torch.manual_seed(8)
    parts = hvd.SyncBatchNorm(channels, **options).to(dtype)
    whole = kind[len(shape) + 1](channels, **options).to(dtype)
    if parts.affine:
        for m in (parts, whole):
            with torch.no_grad():
                m.weight.copy_(torch.arange(1.0, channels + 1))
                m.bias.copy_(torch.arange(0.0, channels))
    starts = [sum(counts[:r]) for r in range(len(counts) + 1)]
    mine = slice(starts[hvd.rank()], starts[hvd.rank() + 1])
    close = lambda a, b: torch.allclose(a, b, rtol=1e-4, atol=1e-4)
    for step in range(2):
        make = torch.Generator().manual_seed(step)
        x = (torch.randn((sum(counts),) + shape, generator=make) * 3 + 50).to(dtype)
        dy = torch.randn(x.shape, generator=make).to(dtype)
        a, b = x[mine].clone().requires_grad_(), x.clone().requires_grad_()
        ya, yb = parts(a), whole(b)
        (ya * dy[mine]).sum().backward()
        (yb * dy).sum().backward()
        assert close(ya, yb[mine]), "output"
        assert close(a.grad, b.grad[mine]), "gradient"
    if parts.affine:
        for name in ("weight", "bias"):
            mine_of = hvd.allreduce(getattr(parts, name).grad, op=hvd.Sum, name="bn." + name)
            assert torch.allclose(mine_of, getattr(whole, name).grad, rtol=1e-3, atol=1e-2), name
    if parts.track_running_stats:
        assert close(parts.running_mean, whole.running_mean) and close(parts.running_var, whole.running_var)
        assert parts.num_batches_tracked == whole.num_batches_tracked
    x = torch.randn((3,) + shape).to(dtype)
    assert close(parts.eval()(x), whole.eval()(x)), "evaluation"


def batch_norm_of_equal_parts():
    _norms((3, 5, 5), [2] * hvd.size())
    _norms((4,), [3] * hvd.size())
    _norms((4, 6), [2] * hvd.size())
    _norms((2, 3, 3, 3), [2] * hvd.size(), dtype=torch.float64)


def batch_norm_of_unequal_parts():
    _norms((3, 4, 4), [r + 1 for r in range(hvd.size())])
    _norms((3, 4, 4), [3] + [0] * (hvd.size() - 1))


def batch_norm_options():
    _norms((3, 4, 4), [2] * hvd.size(), affine=False)
    _norms((3, 4, 4), [2] * hvd.size(), momentum=None)
    _norms((3, 4, 4), [2] * hvd.size(), track_running_stats=False)
    _norms((3, 4, 4), [2] * hvd.size(), eps=0.1, momentum=0.5)


def batch_norm_refuses():
    norm = hvd.SyncBatchNorm(3)
    raises(ValueError, "at least 2D", norm, torch.ones(3))
    raises(ValueError, "channels", norm, torch.ones(2, 4))
    one = torch.ones(1 if hvd.rank() == 0 else 0, 3)
    raises(ValueError, "more than 1 value per channel", norm, one)


CASES = [
    "sgd_equals_one_process", "adam_equals_one_process", "doubles_equal_one_process", "two_parameter_groups",
    "sum_is_the_average_times_size", "predivide", "predivide_in_groups", "groups_by_number", "groups_by_list",
    "groups_of_two_dtypes", "number_of_groups_by_its_old_name", "half_precision_on_the_way", "compression_of_the_user",
    "half_precision_parameters", "layouts_of_memory", "sparse_gradients", "a_sparse_gradient_missing_on_one_rank",
    "parameters_unused_on_a_rank", "a_rank_without_any_gradient", "frozen_parameters", "parameters_added_later",
    "passes_are_added_up", "a_step_before_all_passes", "too_many_passes", "gradients_that_need_gradients",
    "zero_grad_in_all_its_forms", "gradients_stay_in_the_arena", "gradients_that_look_elsewhere",
    "parameters_without_elements", "the_arena_can_be_turned_off",
    "a_model_that_changes_its_type", "zero_grad_too_early", "synchronize_clip_and_step", "a_warning_when_reduced_twice",
    "closures_see_reduced_gradients", "lbfgs", "wrong_arguments", "names", "it_is_the_optimizer_of_the_user",
    "state_goes_in_and_out", "a_state_from_before_is_kept", "a_model_wrapped_again", "broadcasts_go_with_it",
    "process_sets", "goes_on_after_a_mismatch", "goes_on_after_a_new_start", "adasum_of_equal_steps",
    "adasum_of_different_steps", "adasum_with_passes_and_missing_gradients", "adasum_refuses",
    "batch_norm_of_equal_parts", "batch_norm_of_unequal_parts", "batch_norm_options", "batch_norm_refuses",
]

# The numbers of ranks that a case is for, where not all: hooks exist from 2 on, Adasum takes powers of 2.
ONLY = {
    "too_many_passes": [2, 3, 4],
    "gradients_that_need_gradients": [2, 3, 4],
    "gradients_stay_in_the_arena": [2, 3, 4],
    "zero_grad_too_early": [2, 3, 4],
    "process_sets": [2, 3, 4],
    "goes_on_after_a_mismatch": [2, 3, 4],
    "adasum_of_equal_steps": [1, 2, 4],
    "adasum_of_different_steps": [1, 2],
    "adasum_with_passes_and_missing_gradients": [1, 2, 4],
    "adasum_refuses": [2, 4],
}
