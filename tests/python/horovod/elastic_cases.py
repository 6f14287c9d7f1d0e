"""Elastic training on several ranks, as functions that each rank calls; see launch.py."""
import torch
import torch.nn.functional as F

import horovod.torch as hvd
from horovod.common import elastic
from horovod.common.elastic import HostUpdateResult


class Client:
    """A driver that keeps the world as it is."""

    def __init__(self):
        self.worlds = self.commits = 0

    def next_world(self, timeout_s):
        assert not hvd.is_initialized(), "the engine was not shut down"
        self.worlds += 1

    def commit(self):
        self.commits += 1


class with_driver:
    def __enter__(self):
        elastic.notifications.client = client = Client()
        return client

    def __exit__(self, *_):
        elastic.notifications.client = None


def _state(seed=0):
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
                                         model.named_parameters())
    sampler = hvd.elastic.ElasticSampler(list(range(23)), seed=4)
    return hvd.elastic.TorchState(model=model, optimizer=optimizer, sampler=sampler, step=0)


def _train_step(state):
    state.optimizer.zero_grad()
    x = torch.arange(6.0).view(2, 3) + hvd.rank() + state.step
    F.mse_loss(state.model(x), torch.ones(2, 2)).backward()
    state.optimizer.step()
    state.step += 1


def _everywhere_equal(tensor):
    every = hvd.allgather(tensor.detach().reshape(1, -1), name="compared")
    assert all(torch.equal(row, every[0]) for row in every), every


def sync_gives_the_state_of_rank_0():
    state = _state(seed=hvd.rank())
    state.step = 10 + hvd.rank()
    if hvd.rank() == 0:
        state.sampler.record_batch(0, 2)
    state.sync()
    assert state.step == 10 and state.sampler.processed_num == 2 * hvd.size()
    _everywhere_equal(state.model.weight)
    before = state.model.weight.detach().clone()
    _train_step(state)
    _everywhere_equal(state.model.weight)
    assert not torch.equal(before, state.model.weight)
    state.restore()
    assert torch.equal(before, state.model.weight) and state.step == 10
    assert not any(p.grad is not None and p.grad.any() for p in state.model.parameters())
    assert not state.optimizer.state_dict()["state"]


def the_hosts_change():
    """What rank 0 has heard interrupts all ranks, and keeps the state."""
    with with_driver() as client:
        state, seen, resets = _state(), [], []
        state.register_reset_callbacks([lambda: resets.append(hvd.size())])

        @hvd.elastic.run
        def train(state):
            seen.append(state.step)
            while state.step < 6:
                _train_step(state)
                if state.step == 3 and hvd.rank() == 0:
                    state.on_hosts_updated(1, HostUpdateResult.added)
                if state.step == 4 and hvd.rank() > 0:
                    state.on_hosts_updated(2, HostUpdateResult.added)       # rank 0 has not heard of it
                state.commit()
            return "done"

        assert train(state) == "done"
        assert seen == [0, 3] and resets == [hvd.size()] and client.worlds == 1 and client.commits == 6
        _everywhere_equal(state.model.weight)


def a_failure_goes_back_to_the_last_commit():
    with with_driver() as client:
        state, seen = _state(), []

        @hvd.elastic.run
        def train(state):
            seen.append(state.step)
            while state.step < 6:
                _train_step(state)
                if state.step % 2 == 0:
                    state.commit()
                if state.step == 5 and client.worlds == 0:
                    # The ranks disagree: every one of them gets the error, with half of its gradients on the way.
                    state.model(torch.ones(1, 3)).sum().backward()
                    hvd.allreduce(torch.ones(2 + hvd.rank()), name="of different shapes")
            return state.step

        assert train(state) == 6
        assert seen == [0, 4] and client.worlds == 1
        reference = _state()
        while reference.step < 6:
            _train_step(reference)
        assert torch.allclose(state.model.weight, reference.model.weight, atol=1e-6)
        _everywhere_equal(state.model.weight)


def a_failure_without_a_driver_is_raised():
    state = _state()

    @hvd.elastic.run
    def train(state):
        _train_step(state)
        state.commit()
        _train_step(state)
        hvd.allreduce(torch.ones(2 + hvd.rank()), name="of different shapes")

    try:
        train(state)
    except hvd.HorovodInternalError:
        assert state.step == 1, "the state was not restored"
        return
    raise AssertionError("nothing was raised")


def the_sampler_shares_out_what_is_left():
    sampler = hvd.elastic.ElasticSampler(list(range(23)), seed=4)
    taken = []
    for i in range(2):
        order = list(sampler)
        taken += order[2 * i:2 * i + 2]
        sampler.record_batch(i, 2)
    again = hvd.elastic.ElasticSampler(list(range(23)), seed=4)
    again.load_state_dict(sampler.state_dict())
    rest = list(again)
    assert len(rest) == len(again)
    every = hvd.allgather(torch.tensor(taken + rest), name="samples").tolist()
    assert sorted(set(every)) == list(range(23))
    assert len(every) < 23 + hvd.size()


CASES = ["sync_gives_the_state_of_rank_0", "the_hosts_change", "a_failure_goes_back_to_the_last_commit",
         "a_failure_without_a_driver_is_raised", "the_sampler_shares_out_what_is_left"]

# Ranks that disagree take two.
ONLY = {"a_failure_goes_back_to_the_last_commit": [2, 3, 4], "a_failure_without_a_driver_is_raised": [2, 3, 4]}
