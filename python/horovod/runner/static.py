"""A job whose workers stay the same: if one fails, all end."""
import signal
from typing import List, Optional

from . import network, outcome
from .common.util.hosts import HostInfo, get_host_assignments, parse_host_files, parse_hosts
from .driver import Driver
from .loop import Loop, Signals
from .output import Output
from .process import Process, Processes, status_text
from .settings import (LaunchError, Settings, bind_address, new_secret, rendezvous_environment, start_worker,
                       worker_environment)


def hosts_of(settings: Settings) -> List[HostInfo]:
    """The hosts that the job may use; without any named, this one with as many slots as are wanted."""
    if settings.hosts and settings.hostfile:
        raise ValueError("give -H or --hostfile, not both")
    text = settings.hosts
    if settings.hostfile:
        text = parse_host_files(settings.hostfile, settings.slots or 1)
    if not text:
        return [HostInfo("localhost", settings.np or 1)]
    return parse_hosts(text, settings.slots or 1)


def exit_status(status: int) -> int:
    """The exit status of the launcher for a worker that ended with `status`."""
    return status if status > 0 else 128 - status


class StaticJob:
    """One run of it."""

    def __init__(self, settings: Settings, function: Optional[bytes] = None):
        self._settings, self._function = settings, function
        self._hosts = hosts_of(settings)
        if settings.np is None:
            settings.np = sum(h.slots for h in self._hosts)
        self._slots = get_host_assignments(self._hosts, settings.np)
        if settings.interfaces:
            network.check_interfaces(settings.interfaces)
        self._failed: Optional[Process] = None
        self._stopped_by = 0
        self._ended: List[Process] = []

    def run(self) -> List[object]:
        """The results by rank of a function, if there is one; LaunchError when a worker fails."""
        settings = self._settings
        from horovod import _rendezvous     # not needed to ask for --help

        loop = Loop()
        output = Output(settings.np, settings.output_filename, settings.timestamps, settings.stdout, settings.stderr)
        self._processes = Processes(loop, output)
        secret = new_secret()
        names = [slot.hostname for slot in self._slots]
        listen = bind_address(settings, names)
        driver = None
        server = _rendezvous.Rendezvous(listen, 0, secret, settings.np)
        try:
            with Signals(loop, self._signalled):
                if self._function is not None:
                    driver = Driver(loop, listen, secret)
                    driver.function = self._function
                self._start(server, driver, secret)
                loop.run_until(self._round_done)
        finally:
            self._processes.close()
            if driver:
                driver.close()
            server.close()
            output.close()
            loop.close()
        self._judge(driver.results if driver else {})
        return self._values(driver.results) if driver else []

    def _start(self, server, driver, secret):
        settings = self._settings
        for slot in self._slots:
            host = slot.hostname
            address = network.address_for(host, settings.interfaces)
            environment = worker_environment(settings, host, secret)
            environment.update(slot.environment())
            environment.update(rendezvous_environment(address, server.port, secret))
            if driver:
                environment.update(driver.environment(address, slot.rank))
            process = Process(host, slot.rank, self._ended.append)
            start_worker(settings, self._processes, process, environment)
            settings.say_more("started %s" % process)

    def _round_done(self):
        """Judge all that ended in one round together: the one that a signal killed is the cause, not its peers."""
        failed = [p for p in self._ended if p.status != 0 and not p.ending]
        self._ended.clear()
        if failed and not self._failed:
            self._failed = min(failed, key=lambda p: (p.status >= 0, p.rank))
            self._processes.end_all()
        return not self._processes.live

    def _signalled(self, number):
        if self._stopped_by:
            self._processes.kill_all()      # asked twice
        self._stopped_by = self._stopped_by or number
        self._processes.end_all()

    def _judge(self, results):
        if self._stopped_by:
            name = signal.Signals(self._stopped_by).name
            raise LaunchError("ended by %s; all ranks have been ended" % name, 128 + self._stopped_by)
        if self._failed:
            outcome.raise_error(results, self._failed.rank)
            text = "%s %s" % (self._failed, status_text(self._failed.status))
            if self._failed.remote and self._failed.status == 255 and not self._failed.connected:
                text = "ssh to host %s failed (see its message above); rank %s was to run there" % (
                    self._failed.host, self._failed.rank)
            if self._settings.np > 1:
                text += "; the other ranks have been ended"
            raise LaunchError(text, exit_status(self._failed.status))

    def _values(self, results):
        missing = [str(rank) for rank in range(self._settings.np) if rank not in results]
        if missing:
            raise LaunchError("rank %s ended without a result of the function: it left the process by itself"
                              % ", ".join(missing))
        return [outcome.value(results[rank]) for rank in range(self._settings.np)]
