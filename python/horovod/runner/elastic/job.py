"""An elastic job: workers are started where hosts have slots, and put into one world after another.

Everything happens on the launcher's one thread.  Each event (hosts found, a worker that is ready or has ended, a time
that is over) changes what is known, and then _step() does what follows from it; plan.py decides.
"""
import secrets
import signal
import time
from typing import Dict, List, Optional

from .. import network, outcome
from ..common.util.hosts import place
from ..driver import Connection, Driver
from ..loop import Loop, Signals
from ..output import Output
from ..process import Process, Processes, status_text
from ..settings import LaunchError, Settings, new_secret, start_worker, worker_environment, world_secret
from ..static import exit_status, hosts_of
from . import plan
from .discovery import FixedHosts, HostDiscoveryScript
from .plan import State, Worker


def left_text(n: int) -> str:
    return "%d %s left" % (n, "is" if n == 1 else "are")


class World:
    """What the ranks of one generation need to find each other."""

    def __init__(self, generation: int, secret: str, size: int, listen: Optional[str]):
        from horovod import _rendezvous

        self.generation, self.size = generation, size
        self.salt = secrets.token_hex(16)
        self.server = _rendezvous.Rendezvous(listen, 0, world_secret(secret, generation, self.salt), size)
        self.port = self.server.port
        self.broken = False         # a rank has died or is READY again: it cannot go on

    def abandon(self) -> None:
        """Ranks that are still on their way into this world get an error at once.

        A server that is gone may come back, so they would look for it until their time is over; one that is there for a
        world of another size refuses them for good.
        """
        self.broken = True
        self.server.reset(self.size + 1)

    def close(self) -> None:
        self.server.close()


class ElasticJob:
    """One run of it."""

    def __init__(self, settings: Settings, function: Optional[bytes] = None):
        self._settings, self._function = settings, function
        self._min = settings.min_np or settings.np or 1
        self._first = settings.np or self._min          # ranks of the first world, at least
        self._max = settings.max_np
        if self._max is not None and self._max < max(self._min, self._first):
            raise ValueError("--max-np %d is less than --min-np or -np (%d)" % (self._max, max(self._min, self._first)))
        if self._first < self._min:
            raise ValueError("-np %d is less than --min-np %d" % (self._first, self._min))
        if settings.host_discovery_script and (settings.hosts or settings.hostfile):
            raise ValueError("give --host-discovery-script, or -H or --hostfile, not both")
        if settings.interfaces:
            network.check_interfaces(settings.interfaces)
        self._discovery = settings.discovery or self._make_discovery(settings)
        self._blacklist = plan.Blacklist(settings.cooldown_range)
        self._hosts: Dict[str, int] = {}
        self._hosts_known = False
        self._workers: Dict[int, Worker] = {}
        self._next_number = 0
        self._world: Optional[World] = None
        self._generation = 0
        self._done: List[Worker] = []
        self._failure: Optional[tuple] = None           # (text, status, rank, worker number) of this generation
        self._last_warning = ""
        self._told_removed: set = set()
        self._told_added: set = set()
        self._member_failed = False                     # that one was a rank of the world
        self._told_waiting = False
        self._timestamp = 0.0
        self._stuck_since: Optional[float] = None
        self._error: Optional[LaunchError] = None
        self._over = False
        self._ended: List[Process] = []
        self._stopped_by = 0

    def _make_discovery(self, settings):
        if settings.host_discovery_script:
            return HostDiscoveryScript(settings.host_discovery_script, settings.slots)
        if not settings.hosts and not settings.hostfile:
            settings = Settings(np=self._max or self._first)
        return FixedHosts(hosts_of(settings))

    # ---- the run ----

    def run(self) -> List[object]:
        """The results of a function by rank of the last world; LaunchError when the job fails."""
        settings = self._settings
        self._loop = loop = Loop()
        output = Output(self._max or self._first, settings.output_filename, settings.timestamps, settings.stdout,
                        settings.stderr)
        self._processes = Processes(loop, output)
        self._secret = new_secret()
        # Hosts that come later may be others: only a job that cannot leave this host listens to it alone.
        self._listen = "127.0.0.1" if self._only_here() else None
        self._driver = Driver(loop, self._listen, self._secret)
        self._driver.function = self._function
        self._driver.on_hello, self._driver.on_message = self._hello, self._message
        self._stuck_since = time.monotonic()
        try:
            with Signals(loop, self._signalled):
                self._discovery.start(loop, self._found, self._not_found)
                self._tick()
                loop.run_until(self._round_done)
        finally:
            self._discovery.close()
            self._processes.close()
            if self._world:
                self._world.close()
            self._driver.close()
            output.close()
            loop.close()
        if self._stopped_by:
            raise LaunchError("ended by %s; all workers have been ended" % signal.Signals(self._stopped_by).name,
                              128 + self._stopped_by)
        if self._error:
            raise self._error
        return self._values()

    def _only_here(self):
        return isinstance(self._discovery, FixedHosts) and all(network.is_local(h) for h in self._discovery.hosts)

    def _tick(self):
        """Times that nothing else announces: cooldowns, bounds on waiting."""
        if not self._over:
            self._loop.after(0.5, self._tick)

    def _round_done(self):
        ended = list(self._ended)
        self._ended.clear()
        # Those that a signal killed first: what their peers do is a consequence.
        for process in sorted(ended, key=lambda p: p.status >= 0):
            self._gone(process)
        if not self._over:
            self._step()
        return self._over and not self._processes.live

    def _finish(self, error: Optional[LaunchError]):
        if self._over:
            return
        self._over, self._error = True, error
        self._discovery.close()
        self._processes.end_all()

    def _signalled(self, number):
        if self._stopped_by:
            self._processes.kill_all()
        self._stopped_by = self._stopped_by or number
        self._finish(None)

    # ---- events ----

    def _found(self, hosts):
        self._hosts, self._hosts_known, self._last_warning = hosts, True, ""

    def _not_found(self, text):
        if not self._hosts_known:       # a script that never worked is a mistake of the command line
            self._finish(LaunchError(text))
            return
        if text != self._last_warning:
            self._settings.say(text + "; the hosts from before stay")
        self._last_warning = text

    def _hello(self, connection: Connection):
        worker = self._workers.get(connection.worker)
        if worker is None:
            connection.close()

    def _message(self, connection: Connection, message: dict):
        worker = self._workers.get(connection.worker)
        if worker is None or message["op"] != "ready":
            return
        worker.connection = connection
        worker.has_state = worker.has_state or bool(message.get("has_state"))
        if worker.state == State.LEAVING:
            self._dismiss(worker)
            return
        if worker.state == State.RUNNING and self._world and worker.generation == self._world.generation:
            self._world.broken = True
        worker.state = State.READY

    def _dismiss(self, worker):
        worker.rank = None
        worker.connection.send({"op": "leave", "why": "its slot is gone"})

    def _gone(self, process: Process):
        worker = next((w for w in self._workers.values() if w.process is process), None)
        if worker is None:
            return
        del self._workers[worker.number]
        if process.ending or self._over or (worker.state == State.LEAVING and (process.status or worker.rank is None)):
            self._settings.say_more("%s has left" % process)
            if self._in_world(worker):
                self._world.abandon()
        elif process.status == 0:
            self._done.append(worker)
        else:
            self._failed(worker, process)

    def _failed(self, worker, process):
        # Before it has a place in a world, its rank is only what it is likely to become.
        name = str(process) if worker.rank is not None or not self._generation else "a new worker (%s)" % process.where
        text = "%s %s" % (name, status_text(process.status))
        if process.remote and not process.connected:
            text = "ssh to host %s failed (see its message above)" % process.host
        delay = self._blacklist.failed(worker.host, time.monotonic())
        member = self._in_world(worker)
        if self._failure is None or (member and not self._member_failed):
            self._member_failed = member
            self._failure = (text, exit_status(process.status), worker.rank, worker.number)
        self._settings.say("%s; host %s gets no new workers%s; %s" % (
            text, worker.host, "" if delay is None else " for %.1f s" % delay, left_text(len(self._workers))))
        if member:
            self._world.abandon()

    def _in_world(self, worker):
        return bool(self._world) and worker.generation == self._world.generation and worker.rank is not None

    # ---- what follows ----

    def _step(self):
        if self._end_reached():
            return
        for act in (self._seat, self._tell, self._form, self._check_waiting):
            if not self._over:
                act()

    def _end_reached(self):
        """Whether the job has come to an end, good or bad."""
        # Before the first world, workers may be programs that never ask for one.
        if self._done and not any(w.rank is not None or self._generation == 0 for w in self._workers.values()):
            error = None        # newcomers that have failed are not missed
            if self._failure and (self._member_failed or self._generation == 0):
                error = self._failure_error("; the others have finished")
            self._finish(error)
            return True
        if not self._workers and self._failure:
            self._finish(self._failure_error("; no worker is left"))
            return True
        return False

    def _failure_error(self, more):
        text, status, rank, number = self._failure
        try:
            outcome.raise_error(self._driver.results, number, rank)
        except LaunchError as e:
            return e
        return LaunchError(text + more, status)

    def _seat(self):
        """Start workers where there are slots, and mark those that have lost theirs."""
        if self._done or not self._hosts_known:
            return
        now = time.monotonic()
        leave, start = plan.seats(self._hosts, list(self._workers.values()), self._max,
                                  lambda host: not self._blacklist.blocked(host, now))
        for worker in leave:
            ready = worker.state == State.READY
            if worker.state == State.STARTING:
                self._processes.end(worker.process)
            worker.state = State.LEAVING
            if ready:
                self._dismiss(worker)
        for host in start:
            self._start(host)
            if self._over:
                return

    def _start(self, host):
        settings = self._settings
        worker = Worker(self._next_number, host, since=time.monotonic())
        self._next_number += 1
        used = {w.process.rank for w in self._workers.values()}
        rank = next(n for n in range(len(used) + 1) if n not in used)       # what it is likely to become
        worker.process = Process(host, rank, self._ended.append)
        address = network.address_for(host, settings.interfaces)
        environment = worker_environment(settings, host, self._secret)
        environment.update(self._driver.environment(address, worker.number))
        environment.update({"HOROVOD_ELASTIC": "1", "HOROVOD_ELASTIC_TIMEOUT": str(settings.elastic_timeout_s)})
        self._workers[worker.number] = worker
        try:
            start_worker(settings, self._processes, worker.process, environment)
        except LaunchError as e:
            del self._workers[worker.number]
            self._finish(e)
            return
        settings.say_more("started %s" % worker.process)

    def _tell(self):
        """Tell the ranks that run of what makes them come back: slots that are gone at once, newcomers when ready."""
        running = [w for w in self._workers.values() if w.rank is not None and w.state in (State.RUNNING, State.LEAVING)]
        if not self._world or self._world.broken or not running:
            return
        removed = {w.number for w in running if w.state == State.LEAVING} - self._told_removed
        added = {w.number for w in self._workers.values() if w.state == State.READY} - self._told_added
        if not removed and any(self._about_to_come(w) for w in self._workers.values()):
            added = set()       # they come in together
        if not removed and not added:
            return
        self._told_removed |= removed
        self._told_added |= added
        self._timestamp = max(time.time(), self._timestamp + 1e-3)
        for worker in running:
            worker.connection.send({"op": "hosts", "timestamp": self._timestamp, "added_only": not removed})

    def _about_to_come(self, worker):
        return worker.state == State.STARTING and time.monotonic() - worker.since < self._settings.start_timeout_s

    def _form(self):
        """Make the next world of those that are ready, if it can be made."""
        workers = list(self._workers.values())
        first = self._generation == 0
        if not plan.can_form(workers, self._need(), first and any(map(self._about_to_come, workers))):
            return
        if self._settings.reset_limit is not None and self._generation > self._settings.reset_limit:
            self._finish(LaunchError("the world was made anew %d times; that is the limit (--reset-limit)"
                                     % (self._generation - 1) if self._settings.reset_limit else
                                     "the world would have to be made anew, and --reset-limit 0 forbids it"))
            return
        members = plan.order([w for w in workers if w.state == State.READY])[:self._max]
        if self._world:
            self._world.close()
        self._generation += 1
        self._world = World(self._generation, self._secret, len(members), self._listen)
        self._failure, self._member_failed = None, False
        self._stuck_since, self._told_waiting = None, False
        self._told_removed, self._told_added = set(), set()
        for worker, slot in zip(members, place([w.host for w in members])):
            self._admit(worker, slot)
        self._settings.say_more("world %d: %d ranks on %s" % (
            self._generation, len(members), ", ".join(sorted({w.host for w in members}))))

    def _admit(self, worker, slot):
        worker.state, worker.rank, worker.generation, worker.has_state = (
            State.RUNNING, slot.rank, self._generation, True)
        worker.process.rank = slot.rank
        worker.connection.send({
            "op": "world", "generation": self._generation, "salt": self._world.salt,
            "host": network.address_for(worker.host, self._settings.interfaces), "port": self._world.port,
            "rank": slot.rank, "size": slot.size, "local_rank": slot.local_rank, "local_size": slot.local_size,
            "cross_rank": slot.cross_rank, "cross_size": slot.cross_size})

    def _check_waiting(self):
        """Bound the time in which no world runs, or in which a broken one is left by some of its ranks only."""
        workers = self._workers.values()
        running = [w for w in workers if w.rank is not None and w.state in (State.RUNNING, State.LEAVING)]
        if running and not self._world.broken:
            self._stuck_since = None
            return
        now = time.monotonic()
        if self._stuck_since is None:
            self._stuck_since = now
        if not running and not self._done and self._hopeless(now):
            return
        if not running and self._generation and len(self._workers) < self._need() and not self._told_waiting:
            self._told_waiting = True
            self._settings.say("%d of at least %d workers are left; waiting for hosts, up to %d s"
                               % (len(self._workers), self._need(), self._settings.elastic_timeout_s))
        # Enough that are alive are waited for: those that are ready have bounds of their own.
        if now - self._stuck_since < self._settings.elastic_timeout_s or (
                not running and len(self._workers) >= self._need()):
            return
        if running:
            for worker in running:
                text = "%s has not left its broken world within %d s" % (worker.process, self._settings.elastic_timeout_s)
                self._settings.say(text + " and is ended")
                self._failure = self._failure or (text, 1, worker.rank, worker.number)
                self._member_failed = True
                self._processes.end(worker.process)
            self._stuck_since = now
            return
        self._finish(LaunchError(
            "%d of at least %d workers within %d s; hosts: %s%s" % (
                len(self._workers), self._need(), self._settings.elastic_timeout_s, self._hosts_text(now),
                "; " + self._last_warning if self._last_warning else "")))

    def _need(self):
        """How many make a world: ranks that have finished are not missed."""
        if self._done:
            return 1
        return self._first if self._generation == 0 else self._min

    def _hopeless(self, now):
        """Hosts that never change and are out for good cannot help any more."""
        if not isinstance(self._discovery, FixedHosts) or not self._failure:
            return False
        usable = sum(n for host, n in self._hosts.items() if not self._blacklist.for_good(host))
        there = sum(1 for w in self._workers.values() if self._blacklist.for_good(w.host) and w.state != State.LEAVING)
        if usable + there >= self._need():
            return False
        self._finish(self._failure_error("; of %d workers that are needed, %s, and no host can start more"
                                         % (self._need(), left_text(len(self._workers)))))
        return True

    def _hosts_text(self, now):
        words = ["%s:%d%s" % (host, slots, " (a worker failed there)" if self._blacklist.blocked(host, now) else "")
                 for host, slots in self._hosts.items()]
        return ", ".join(words) or "none"

    def _values(self):
        if self._function is None:
            return []
        last = sorted((w for w in self._done if w.generation == self._generation), key=lambda w: w.rank or 0)
        results = self._driver.results
        return [outcome.value(results[w.number]) for w in last if w.number in results]
