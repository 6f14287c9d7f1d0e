"""What an elastic job should do next: pure functions of what is known, so that they can be tested by themselves.

A worker goes STARTING -> READY (it waits for a world) -> RUNNING (it has one) -> READY ... and ends as DONE (it exited
with status 0) or FAILED.  LEAVING workers are told to end when they ask for a world.
"""
import enum
import random
from dataclasses import dataclass, field
from typing import Callable, Dict, List, Optional, Tuple


class State(enum.Enum):
    STARTING = "starting"
    READY = "ready"
    RUNNING = "running"
    LEAVING = "leaving"


@dataclass
class Worker:
    number: int                     # unique in the job
    host: str
    state: State = State.STARTING
    rank: Optional[int] = None      # in the last world that it was part of
    generation: int = 0             # of that world
    has_state: bool = False         # it has something to lose: it was in a world
    since: float = 0.0              # when it was started, on the monotonic clock
    process: object = None
    connection: object = None


def seats(hosts: Dict[str, int], workers: List[Worker], max_np: Optional[int], usable) -> Tuple[List[Worker], List[str]]:
    """(the workers that have no slot any more, the hosts on which workers are to be started).

    Who is there stays: slots go to workers first, in the order of their ranks, and to newcomers after; a host that is
    not usable(host) gets no newcomers.
    """
    limit = max_np if max_np is not None else sum(hosts.values())
    free = dict(hosts)
    stay = 0
    leave = []
    for worker in sorted(workers, key=lambda w: (w.rank is None, w.rank if w.rank is not None else w.number)):
        if worker.state == State.LEAVING:
            continue
        if free.get(worker.host, 0) > 0 and stay < limit:
            free[worker.host] -= 1
            stay += 1
        else:
            leave.append(worker)
    start: List[str] = []
    for host, slots in free.items():
        if usable(host):
            start += [host] * min(slots, limit - stay - len(start))
    return leave, start


def order(members: List[Worker]) -> List[Worker]:
    """The members of a new world by rank.

    Ranks of a host are neighbours.  Rank 0 is a survivor, so that its state is what the others take; survivors keep
    their order, and newcomers come after them, on their host and among the hosts.
    """
    def age(worker):
        return (not worker.has_state, worker.rank if worker.rank is not None else 0, worker.number)

    first: Dict[str, tuple] = {}
    for worker in members:
        first[worker.host] = min(first.get(worker.host, age(worker)), age(worker))
    return sorted(members, key=lambda w: (first[w.host], age(w)))


@dataclass
class Blacklist:
    """Hosts on which a worker has failed get no new one: for a while with a cooldown range, else for good."""
    cooldown: Optional[Tuple[float, float]] = None
    jitter: Callable[[], float] = random.random
    _until: Dict[str, float] = field(default_factory=dict)
    _failures: Dict[str, int] = field(default_factory=dict)

    def failed(self, host: str, now: float) -> Optional[float]:
        """How long the host is out; None: for good."""
        if self.cooldown is None:
            self._until[host] = float("inf")
            return None
        if self.blocked(host, now):
            return self._until[host] - now      # workers that fail together are one failure of the host
        low, high = self.cooldown
        n = self._failures[host] = self._failures.get(host, 0) + 1
        delay = min(high, low * 2.0 ** min(n - 1, 60))
        # Up to a quarter more, so that hosts that failed together do not come back together.
        delay = min(high, delay * (1 + self.jitter() / 4))
        self._until[host] = now + delay
        return delay

    def blocked(self, host: str, now: float) -> bool:
        return now < self._until.get(host, 0)

    def for_good(self, host: str) -> bool:
        return self._until.get(host) == float("inf")


def can_form(workers: List[Worker], need: int, wait_for_starting: bool) -> bool:
    """Whether the workers that are READY can be the next world: nobody is still in the old one, and there are enough."""
    ready = sum(w.state == State.READY for w in workers)
    if ready < need or ready == 0:
        return False
    if any(w.state == State.RUNNING for w in workers):
        return False
    if any(w.state == State.LEAVING and w.rank is not None for w in workers):
        return False        # still in the old world, where the others would be waited for
    return not (wait_for_starting and any(w.state == State.STARTING for w in workers))
