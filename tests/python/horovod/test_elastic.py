"""Elastic state, sampler and loop: by themselves with a driver that is played here, and on several ranks."""
import os
import re
import subprocess
import sys
import threading

import pytest
import torch

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import job  # noqa: E402
import launch  # noqa: E402

import horovod.torch as hvd  # noqa: E402
from horovod.common import elastic  # noqa: E402
from horovod.common.elastic import HostUpdateResult, ObjectState, run_fn  # noqa: E402
from horovod.common.exceptions import HorovodInternalError, HostsUpdatedInterrupt  # noqa: E402
from horovod.torch.elastic import sampler as sampler_module  # noqa: E402
from horovod.torch.elastic import state as state_module  # noqa: E402

MODULE = "elastic_cases"


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return launch.Results(tmp_path_factory.mktemp("elastic"), MODULE)


@pytest.mark.parametrize("ranks, case", launch.pairs(MODULE, [1, 2, 4]))
def test_case(results, ranks, case):
    results.check(ranks, case)


def test_every_function_is_listed():
    cases, only, functions = launch.names_in(MODULE)
    assert {f for f in functions if not f.startswith("_")} == set(cases) and set(only) <= set(cases)


# ---- the sampler ----

@pytest.fixture
def world(monkeypatch):
    """A world of this process's imagination: [rank, size]."""
    where = [0, 1]
    monkeypatch.setattr(sampler_module, "rank", lambda: where[0])
    monkeypatch.setattr(sampler_module, "size", lambda: where[1])
    return where


def parts(world, size, **options):
    world[1] = size
    found = []
    for world[0] in range(size):
        found.append(list(hvd.elastic.ElasticSampler(list(range(10)), **options)))
    return found


def test_sampler_covers_everything_and_fills_up(world):
    for size in (1, 2, 3, 4, 7, 16):
        found = parts(world, size)
        assert len({len(p) for p in found}) == 1 and len(found[0]) == -(-10 // size)
        assert {i for p in found for i in p} == set(range(10))


def test_sampler_orders_by_seed_and_epoch(world):
    assert parts(world, 1, shuffle=False) == [list(range(10))]
    sampler = hvd.elastic.ElasticSampler(list(range(10)), seed=1)
    first = list(sampler)
    assert first == list(sampler) and first != list(hvd.elastic.ElasticSampler(list(range(10)), seed=2))
    sampler.set_epoch(1)
    assert list(sampler) != first and sorted(sampler) == list(range(10))


def test_sampler_after_a_change_of_ranks(world):
    world[:] = [0, 2]
    sampler = hvd.elastic.ElasticSampler(list(range(10)), shuffle=False)
    assert list(sampler) == [0, 2, 4, 6, 8] and sampler.indices == [0, 2, 4, 6, 8]
    sampler.record_batch(0, 2)
    assert sampler.processed_num == 4 and sampler.state_dict() == {"epoch": 0, "processed_num": 4}
    world[:] = [2, 3]
    sampler.reset()
    assert (sampler.rank, sampler.num_replicas, len(sampler)) == (2, 3, 2)
    assert sampler.remaining_indices == [4, 5, 6, 7, 8, 9] and list(sampler) == [6, 9]
    for _ in range(3):
        sampler.record_batch(0, 1)
    sampler.reset()
    assert len(sampler) == 0 and list(sampler) == []
    sampler.set_epoch(1)
    assert sampler.processed_num == 0 and len(sampler) == 4


def test_sampler_with_less_left_than_ranks(world):
    world[:] = [3, 4]
    sampler = hvd.elastic.ElasticSampler(list(range(10)), shuffle=False)
    sampler.load_state_dict({"epoch": 0, "processed_num": 9})
    assert list(sampler) == [9] and len(sampler) == 1


# ---- states ----

def object_state(**values):
    return ObjectState(bcast_object=lambda obj: obj, get_rank=lambda: 0, **values)


def test_object_state():
    state = object_state(epoch=3, best=0.5)
    state.epoch, state.best = 4, 0.25
    state.restore()
    assert (state.epoch, state.best) == (3, 0.5)
    state.epoch = 5
    state.commit()
    state.epoch = 6
    state.restore()
    assert state.epoch == 5
    state.epoch = 7
    state.sync()
    assert state.epoch == 7


def test_torch_state(world, monkeypatch):
    for name in ("broadcast_parameters", "broadcast_optimizer_state"):
        monkeypatch.setattr(state_module, name, lambda *_, **__: None)
    monkeypatch.setattr(state_module, "broadcast_object", lambda obj, *_, **__: obj)
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    sampler = hvd.elastic.ElasticSampler(list(range(10)))
    state = hvd.elastic.TorchState(model=model, optimizer=optimizer, sampler=sampler, other=torch.nn.Linear(1, 1), step=1)
    assert state.model is model and state.optimizer is optimizer and state.sampler is sampler
    before = [p.detach().clone() for p in model.parameters()]
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.1
    sampler.record_batch(0, 4)
    state.step = 2
    state.restore()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), before))
    assert optimizer.param_groups[0]["lr"] == 0.5 and sampler.processed_num == 0 and state.step == 1
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    state.commit()
    after = [p.detach().clone() for p in model.parameters()]
    optimizer.step()
    state.restore()
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), after))

    other = torch.nn.Linear(2, 2)
    state.model = other
    kept = other.weight.detach().clone()
    with torch.no_grad():
        other.weight.zero_()
    state.restore()
    assert torch.equal(other.weight, kept)
    world[:] = [1, 2]
    state.on_reset()
    assert (sampler.rank, sampler.num_replicas) == (1, 2)


def test_state_without_a_model(monkeypatch):
    monkeypatch.setattr(state_module, "broadcast_object", lambda obj, *_, **__: obj)
    state = hvd.elastic.TorchState(step=1)
    assert state.model is None and state.optimizer is None
    state.sync()
    state.step = 2
    state.restore()
    assert state.step == 1


def test_host_updates_interrupt_once():
    state = object_state(step=0)
    state.check_host_updates()
    state.on_hosts_updated(5, HostUpdateResult.removed)
    with pytest.raises(HostsUpdatedInterrupt) as told:
        state.check_host_updates()
    assert told.value.skip_sync
    state.check_host_updates()
    state.on_hosts_updated(4, HostUpdateResult.added)       # older than what is known
    state.check_host_updates()
    state.on_hosts_updated(6, HostUpdateResult.removed)
    state.on_hosts_updated(7, HostUpdateResult.added)
    with pytest.raises(HostsUpdatedInterrupt) as told:
        state.commit()
    assert not told.value.skip_sync


def test_only_what_rank_0_has_heard_counts():
    told = ObjectState(bcast_object=lambda obj: (0, 0, HostUpdateResult.no_update), get_rank=lambda: 1, step=0)
    told.on_hosts_updated(5, HostUpdateResult.added)
    told.check_host_updates()
    untold = ObjectState(bcast_object=lambda obj: (0, 5, HostUpdateResult.added), get_rank=lambda: 1, step=0)
    with pytest.raises(HostsUpdatedInterrupt):
        untold.check_host_updates()


def test_reset_forgets_what_was_heard_before_it():
    state = object_state(step=0)
    called = []
    state.register_reset_callbacks([lambda: called.append(1), lambda: called.append(2)])
    state.on_hosts_updated(1, HostUpdateResult.added)
    state.on_reset()
    state.check_host_updates()
    assert called == [1, 2]
    state.on_hosts_updated(2, HostUpdateResult.added)
    state.forget_host_updates()
    state.on_hosts_updated(3, HostUpdateResult.added)       # while the next world was made: it may be without this host
    state.on_reset()
    with pytest.raises(HostsUpdatedInterrupt):
        state.check_host_updates()


# ---- the loop ----

class Driver:
    def __init__(self, events, wanted=10):
        self.events, self.wanted, self.commits = events, wanted, 0
        self.on_hosts_updated = None

    def next_world(self, timeout_s):
        self.events.append("world")
        self.wanted -= 1
        if self.wanted < 0:
            raise SystemExit(0)

    def commit(self):
        self.commits += 1


class Recorded(ObjectState):
    def __init__(self, events):
        super().__init__(bcast_object=lambda obj: obj, get_rank=lambda: 0, step=0)
        self.events = events

    def sync(self):
        self.events.append("sync")
        super().sync()

    def restore(self):
        self.events.append("restore")
        super().restore()

    def reset(self):
        self.events.append("reset")


@pytest.fixture
def events(monkeypatch):
    found = []
    monkeypatch.setattr(elastic, "notifications", elastic.Notifications())
    monkeypatch.delenv("HOROVOD_ELASTIC", raising=False)
    return found


def loop(events, steps, init=None):
    """A training function that does what `steps` says, one entry for each time that it is called."""
    todo = list(steps)

    def train(state, *args):
        events.append("train")
        step = todo.pop(0)
        if isinstance(step, BaseException):
            raise step
        return step, args
    return run_fn(train, init or (lambda: events.append("init")), lambda: events.append("shutdown"))


CHANGE = ["shutdown", "world", "init", "reset", "sync", "train"]


def test_loop_returns_the_result(events):
    assert loop(events, ["result"])(Recorded(events), 1, 2) == ("result", (1, 2))
    assert events == ["sync", "train"]
    assert elastic.notifications._listeners == []


def test_loop_restores_after_a_failure(events):
    elastic.notifications.client = Driver(events)
    loop(events, [HorovodInternalError("a"), HorovodInternalError("b"), "result"])(Recorded(events))
    assert events == ["sync", "train", "restore"] + CHANGE + ["restore"] + CHANGE


def test_loop_keeps_the_state_when_hosts_change(events):
    """It is sent again even if hosts only went: a rank that came meanwhile waits for it."""
    elastic.notifications.client = Driver(events)
    loop(events, [HostsUpdatedInterrupt(True), HostsUpdatedInterrupt(False), "result"])(Recorded(events))
    assert events == ["sync", "train"] + CHANGE + CHANGE


def test_loop_survives_a_failure_while_the_state_is_sent(events):
    elastic.notifications.client = Driver(events)

    class Failing(Recorded):
        failures = 1

        def sync(self):
            super().sync()
            if self.failures:
                self.failures -= 1
                raise HorovodInternalError("a rank died")
    loop(events, ["result"])(Failing(events))
    assert events == ["sync", "restore"] + CHANGE


def test_loop_asks_again_when_a_world_does_not_start(events):
    elastic.notifications.client = Driver(events)
    failures = [HorovodInternalError("a rank died"), ValueError("initialization failed")]

    def init():
        events.append("init")
        if failures:
            raise failures.pop()
    loop(events, [HorovodInternalError("a"), "result"], init)(Recorded(events))
    again = ["world", "init", "shutdown"]
    assert events == ["sync", "train", "restore", "shutdown"] + again * 2 + ["world", "init", "reset", "sync", "train"]


def test_loop_ends_a_worker_that_is_not_wanted(events):
    elastic.notifications.client = Driver(events, wanted=1)
    with pytest.raises(SystemExit):
        loop(events, [HostsUpdatedInterrupt()] * 3)(Recorded(events))
    assert events == ["sync", "train"] + CHANGE + ["shutdown", "world"]
    assert elastic.notifications._listeners == []


def test_loop_without_a_driver(events):
    with pytest.raises(HorovodInternalError, match="a rank died"):
        loop(events, [HorovodInternalError("a rank died")])(Recorded(events))
    assert events == ["sync", "train", "restore"]
    del events[:]
    loop(events, [HostsUpdatedInterrupt(), "result"])(Recorded(events))
    assert events == ["sync", "train", "shutdown", "init", "reset", "sync", "train"]


def test_other_errors_are_the_script_s(events):
    elastic.notifications.client = Driver(events)
    with pytest.raises(KeyError):
        loop(events, [KeyError("x")])(Recorded(events))
    assert events == ["sync", "train"]


def test_the_driver_s_news_reach_every_state(events):
    elastic.notifications.client = driver = Driver(events)
    driver.on_hosts_updated = elastic.notifications.handle_hosts_updated
    state = Recorded(events)

    def train(state):
        if not driver.commits:
            thread = threading.Thread(target=driver.on_hosts_updated, args=(1, True))
            thread.start()
            thread.join()
        state.commit()
    run_fn(train, lambda: None, lambda: None)(state)
    assert events == ["sync", "world", "reset", "sync"] and driver.commits == 2


# ---- with horovodrun ----

def horovodrun(arguments, worker):
    """The lines that the workers have printed, without the rank in front, and what the launcher said."""
    command = [sys.executable, "-m", "horovod.runner.launch"] + arguments
    command += [sys.executable, os.path.join(launch.HERE, "workers", "elastic.py")] + worker
    done = subprocess.run(command, env=job.environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=job.SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split(">:", 1)[-1] for line in done.stdout.splitlines()], done.stderr


def losses_of(lines):
    """By step; a step that was repeated must have had the same loss."""
    found = {}
    for step, loss in re.findall(r"^step (\d+) loss (\S+)$", "\n".join(lines), re.M):
        assert abs(found.setdefault(int(step), float(loss)) - float(loss)) < 1e-5, lines
    return found


def check_losses(lines):
    alone, _ = horovodrun(["-np", "1"], [])
    wanted, found = losses_of(alone), losses_of(lines)
    assert wanted.keys() == found.keys() and len(wanted) == 8, (alone, lines)
    assert all(abs(wanted[step] - found[step]) < 1e-5 for step in wanted), (alone, lines)


def test_training_goes_on_when_a_rank_is_killed(tmp_path):
    lines, told = horovodrun(["-np", "2", "--min-np", "1", "--max-np", "2"], ["kill", str(tmp_path / "mark")])
    assert "rank 0 of 2 begins at step 0" in lines and "rank 1 of 2 begins at step 0" in lines
    assert "rank 0 of 1 begins at step 4" in lines and "SIGKILL" in told
    check_losses(lines)


def test_training_goes_on_when_hosts_come_and_go(tmp_path):
    hosts, script = tmp_path / "hosts", tmp_path / "discover.sh"
    hosts.write_text("localhost:1\n")
    script.write_text("#!/bin/sh\ncat '%s'\n" % hosts)
    script.chmod(0o755)
    lines, _ = horovodrun(["-np", "1", "--min-np", "1", "--max-np", "2", "--host-discovery-script", str(script)],
                          ["hosts", str(hosts)])
    begun = [line for line in lines if line.startswith("rank")]
    assert begun[0] == "rank 0 of 1 begins at step 0" and begun[-1] == "rank 0 of 1 begins at step 5", begun
    assert sorted(begun[1:-1]) == ["rank 0 of 2 begins at step 2", "rank 1 of 2 begins at step 2"], begun
    check_losses(lines)
