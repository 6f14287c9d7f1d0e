"""Parameters, the state of optimizers, and objects."""
import torch
from common import checks_of, everyone, hvd, main, raises, same, values


class Thing:
    def __init__(self, rank):
        self.rank = rank


def check_objects():
    for obj in ({"a": [1, 2.5, None]}, "text", 7, [hvd.rank()] * 5, b"x" * 200000, None):
        if hvd.rank() == 0 or not isinstance(obj, list):
            assert hvd.broadcast_object(obj, 0) == obj
        else:
            assert hvd.broadcast_object(obj, 0) == [0] * 5
    root = hvd.size() - 1
    assert hvd.broadcast_object(Thing(hvd.rank()), root).rank == root
    add = hvd.broadcast_object((lambda x: x + 1) if hvd.rank() == root else None, root)
    assert add(41) == 42
    got = hvd.allgather_object({"rank": hvd.rank(), "data": "x" * (1000 * hvd.rank())})
    assert [g["rank"] for g in got] == list(range(hvd.size())) and len(got[-1]["data"]) == 1000 * root
    assert [t.rank for t in hvd.allgather_object(Thing(hvd.rank()), name="things")] == list(range(hvd.size()))
    # Types that differ between the ranks, without a name.
    mixed = [None, 1, 1.5, "text"]
    assert hvd.allgather_object(mixed[hvd.rank() % 4]) == [mixed[r % 4] for r in range(hvd.size())]


def model(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(16, 2))


def equal_everywhere(tensors):
    for i, t in enumerate(tensors):
        assert torch.equal(hvd.broadcast(t.contiguous(), 0, name="compare.%d" % i), t), i


def check_parameters():
    for root in range(hvd.size()):
        for given in (lambda m: m.state_dict(), lambda m: list(m.named_parameters()), lambda m: list(m.parameters())):
            m = model(hvd.rank())
            want = [p.clone() for p in model(root).parameters()]
            hvd.broadcast_parameters(given(m), root)
            assert all(torch.equal(a, b) for a, b in zip(m.parameters(), want))
            assert all(p.is_leaf and p.requires_grad for p in m.parameters())
    raises(ValueError, lambda: hvd.broadcast_parameters(7, 0), "invalid params")
    raises(ValueError, lambda: hvd.broadcast_parameters(model(0).parameters(), 0), "invalid params")
    m = model(hvd.rank()).to(memory_format=torch.channels_last)     # not contiguous
    hvd.broadcast_parameters(m.state_dict(), 0)
    equal_everywhere(m.state_dict().values())


OPTIMIZERS = [(torch.optim.SGD, dict(lr=0.1, momentum=0.9, weight_decay=0.1)), (torch.optim.SGD, dict(lr=0.1)),
              (torch.optim.Adam, dict(lr=0.1, amsgrad=True)), (torch.optim.AdamW, dict(lr=0.1)), (torch.optim.RMSprop, dict(lr=0.1, centered=True)),
              (torch.optim.Adagrad, dict(lr=0.1)), (torch.optim.Adadelta, {}), (torch.optim.Adamax, {}), (torch.optim.ASGD, {}),
              (torch.optim.Rprop, {}), (torch.optim.NAdam, {}), (torch.optim.RAdam, {})]


def flat(state):
    if isinstance(state, dict):
        return [x for k in sorted(state, key=str) for x in flat(state[k])]
    if isinstance(state, (list, tuple)):
        return [x for v in state for x in flat(v)]
    return [state]


def step(m, optimizer, times):
    for _ in range(times):
        optimizer.zero_grad()
        m(torch.randn(2, 3, 4, 4)).pow(2).sum().backward()
        optimizer.step()


def check_optimizer_state():
    for root in {0, hvd.size() - 1}:
        for kind, options in OPTIMIZERS:
            for root_steps, other_steps in ((2, 2), (2, 0), (0, 2)):
                m = model(1)
                optimizer = kind([{"params": list(m[0].parameters())}, {"params": list(m[3].parameters()), "lr": 0.5 + hvd.rank()}], **options)
                step(m, optimizer, root_steps if hvd.rank() == root else other_steps)
                parameters = [p.clone() for p in m.parameters()]
                hvd.broadcast_optimizer_state(optimizer, root)
                assert all(torch.equal(a, b) for a, b in zip(m.parameters(), parameters))
                assert optimizer.param_groups[1]["lr"] == 0.5 + root
                mine = flat(optimizer.state_dict())
                for other in hvd.allgather_object(mine):
                    assert len(other) == len(mine)
                    for a, b in zip(mine, other):
                        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b, (kind, a, b)
                step(m, optimizer, 1)


def check_optimizers_that_cannot():
    m = model(1)
    raises(ValueError, lambda: hvd.broadcast_optimizer_state(torch.optim.LBFGS(m.parameters()), 0), "LBFGS")


def check_state_keeps_its_tensors():
    m = model(1)
    optimizer = torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9)
    step(m, optimizer, 1)
    before = [optimizer.state[p]["momentum_buffer"] for p in m.parameters()]
    hvd.broadcast_optimizer_state(optimizer, 0)
    assert all(a is optimizer.state[p]["momentum_buffer"] for a, p in zip(before, m.parameters()))


hvd.init()
main(checks_of(globals()))
