"""What an elastic job does next: the pure part."""
import itertools
import random
import re

import pytest

from horovod.runner.elastic import discovery
from horovod.runner.elastic.discovery import HostDiscoveryScript, parse
from horovod.runner.elastic.plan import Blacklist, State, Worker, can_form, order, seats
from horovod.runner.loop import Loop


def workers(*words):
    """From "host:rank" (a rank of the old world) or "host" (new)."""
    found = []
    for number, word in enumerate(words):
        host, _, rank = word.partition(":")
        found.append(Worker(number, host, rank=int(rank) if rank else None, has_state=bool(rank)))
    return found


def everywhere(_):
    return True


def test_seats_at_the_start():
    assert seats({"a": 2, "b": 1}, [], None, everywhere) == ([], ["a", "a", "b"])
    assert seats({"a": 2, "b": 1}, [], 2, everywhere) == ([], ["a", "a"])
    assert seats({"a": 2, "b": 1}, [], 9, lambda host: host != "a") == ([], ["b"])


def test_who_is_there_stays():
    there = workers("b:0", "a:1")
    assert seats({"a": 2, "b": 2}, there, 2, everywhere) == ([], [])
    assert seats({"a": 2, "b": 2}, there, 3, everywhere) == ([], ["a"])
    assert seats({"a": 2, "b": 2}, there, None, lambda host: False) == ([], [])


def test_slots_that_are_gone():
    there = workers("a:0", "a:1", "b:2")
    leave, start = seats({"a": 1, "c": 1}, there, None, everywhere)
    assert [w.rank for w in leave] == [1, 2] and start == ["c"]
    there[1].state = there[2].state = State.LEAVING
    assert seats({"a": 1, "c": 1}, there, None, everywhere) == ([], ["c"])
    assert [w.rank for w in seats({}, there, None, everywhere)[0]] == [0]


def test_order_keeps_survivors_and_neighbours():
    members = workers("new", "b:3", "a:1", "b", "a:2")
    assert [(w.host, w.rank) for w in order(members)] == [("a", 1), ("a", 2), ("b", 3), ("b", None), ("new", None)]
    assert order(workers("a", "b:5"))[0].host == "b"


def test_order_for_all_survivors():
    """Rank 0 always is a survivor where there is one, hosts stay together, survivors of a host keep their order."""
    old = [("a", 0), ("a", 1), ("b", 2), ("b", 3), ("c", 4)]
    for n in range(len(old) + 1):
        for left in itertools.combinations(old, n):
            members = workers(*["%s:%d" % pair for pair in left], "a", "d")
            random.Random(n).shuffle(members)
            got = order(members)
            assert sorted(w.number for w in got) == sorted(w.number for w in members)
            assert not left or got[0].rank == left[0][1]
            assert len([host for host, _ in itertools.groupby(w.host for w in got)]) == len({w.host for w in got})
            ranks = [w.rank for w in got if w.rank is not None]
            assert ranks == sorted(ranks)


def test_when_a_world_can_form():
    a, b, c = workers("a:0", "a:1", "b")
    a.state, b.state, c.state = State.READY, State.RUNNING, State.STARTING
    assert not can_form([a, b, c], 1, False)        # b is still in the old one
    b.state = State.READY
    assert can_form([a, b, c], 2, False) and not can_form([a, b, c], 2, True) and not can_form([a, b, c], 3, False)
    b.state = State.LEAVING
    assert not can_form([a, b, c], 1, False)        # it has not heard yet
    b.rank = None
    assert can_form([a, b, c], 1, False)
    assert not can_form([], 0, False)


def test_blacklist_for_good():
    hosts = Blacklist()
    assert not hosts.blocked("a", 5) and not hosts.for_good("a")
    assert hosts.failed("a", 5) is None
    assert hosts.blocked("a", 1e12) and hosts.for_good("a") and not hosts.blocked("b", 5)


def test_blacklist_with_cooldown():
    hosts = Blacklist((2, 10), jitter=lambda: 1.0)
    assert hosts.failed("a", 100) == 2.5
    assert hosts.failed("a", 101) == 1.5            # in the same pause: the same failure
    assert hosts.blocked("a", 102.4) and not hosts.blocked("a", 102.5) and not hosts.for_good("a")
    assert [hosts.failed("a", t) for t in (200, 300, 400, 500)] == [5, 10, 10, 10]


def test_output_of_a_script():
    assert parse("a:2\n\n  b \na:1\n", 3) == {"a": 3, "b": 3}
    assert parse("", None) == {}
    for text in ("a\n", "a:x\n", "a 2\n"):
        with pytest.raises(ValueError):
            parse(text, None)


@pytest.mark.parametrize("text, why", [
    ("sleep 300 & sleep 300", "has not ended within 0.2 s and was killed"),
    ("exec >&-; sleep 300", "has not ended within 0.2 s and was killed"),
    ("yes a:1", "ended with status|is no host|killed")])
def test_script_that_hangs_or_floods(text, why, tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "SCRIPT_S", 0.2)
    path = tmp_path / "script"
    path.write_text("#!/bin/sh\n%s\n" % text)
    path.chmod(0o755)
    loop, failed, found = Loop(), [], []
    script = HostDiscoveryScript(str(path))
    script.start(loop, found.append, failed.append)
    loop.run_until(lambda: failed or found)
    assert not found and re.search(why, failed[0])
    script.close()
    loop.close()
