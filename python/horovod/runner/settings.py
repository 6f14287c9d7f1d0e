"""What a launch is: filled by the command line (launch.py) or by horovod.run()."""
import hmac
import os
import re
import secrets
import sys
from dataclasses import dataclass, field
from typing import Dict, List, Optional

from . import network, ssh
from .process import Process, Processes


class LaunchError(RuntimeError):
    """The job has failed; `status` is what horovodrun exits with."""

    def __init__(self, text: str, status: int = 1):
        super().__init__(text)
        self.status = status


@dataclass
class Settings:
    command: List[str] = field(default_factory=list)
    np: Optional[int] = None
    hosts: Optional[str] = None             # "a:2,b:4"
    hostfile: Optional[str] = None
    environment: Dict[str, str] = field(default_factory=dict)      # on top of this process's own
    base_environment: Optional[Dict[str, str]] = None               # instead of this process's own
    ssh_port: Optional[int] = None
    ssh_identity_file: Optional[str] = None
    interfaces: List[str] = field(default_factory=list)
    output_filename: Optional[str] = None
    timestamps: bool = False
    verbose: int = 0
    start_timeout_s: int = 30
    # elastic
    host_discovery_script: Optional[str] = None
    discovery: Optional[object] = None      # an object of elastic.discovery
    min_np: Optional[int] = None
    max_np: Optional[int] = None
    slots: Optional[int] = None             # of a host that names none
    elastic_timeout_s: int = 600
    reset_limit: Optional[int] = None
    cooldown_range: Optional[tuple] = None  # seconds
    stdout: Optional[object] = None
    stderr: Optional[object] = None

    @property
    def elastic(self) -> bool:
        return bool(self.host_discovery_script or self.discovery or self.min_np or self.max_np)

    def say(self, text: str) -> None:
        """A line for the person who started the job."""
        stream = self.stderr or sys.stderr
        try:
            stream.write("horovodrun: %s\n" % text)
            stream.flush()
        except OSError:
            pass

    def say_more(self, text: str) -> None:
        if self.verbose:
            self.say(text)


def new_secret() -> str:
    """A key for one job or one world."""
    return secrets.token_hex(32)


def world_secret(secret: str, generation: int, salt: str) -> str:
    """The key of one world of an elastic job: who has left the job's earlier worlds cannot enter it by mistake."""
    return hmac.new(secret.encode(), ("world %d %s" % (generation, salt)).encode(), "sha256").hexdigest()


def worker_environment(settings: Settings, host: str, secret: str) -> Dict[str, str]:
    """What every worker gets, wherever it has its place."""
    found = {"HOROVOD_CONTROLLER": "gloo", "HOROVOD_CPU_OPERATIONS": "gloo", "HOROVOD_HOSTNAME": host,
             "HOROVOD_SECRET_KEY": secret, "HOROVOD_START_TIMEOUT": str(settings.start_timeout_s),
             "PYTHONUNBUFFERED": "1"}
    if settings.interfaces:
        found["HOROVOD_GLOO_IFACE"] = settings.interfaces[0]
    found.update(settings.environment)
    return found


def rendezvous_environment(host: str, port: int, secret: str) -> Dict[str, str]:
    """Where the ranks of a world find each other; the second group is for scripts that look for Horovod's names."""
    name = "[%s]" % host if ":" in host else host
    return {"TRAINYARD_COLL_RENDEZVOUS": "%s:%d" % (name, port), "TRAINYARD_COLL_SECRET": secret,
            "HOROVOD_GLOO_RENDEZVOUS_ADDR": host, "HOROVOD_GLOO_RENDEZVOUS_PORT": str(port)}


# Of a launcher around this one: its ranks are not ours.
_OUTER = re.compile(r"^(HOROVOD_((LOCAL_|CROSS_)?(RANK|SIZE)|HOSTNAME|ELASTIC|SECRET_KEY|GLOO_RENDEZVOUS_.*)|"
                    r"TRAINYARD_COLL_(RANK|SIZE|RENDEZVOUS|SECRET)|TRAINYARD_HOROVOD_.*)$")


def start_worker(settings: Settings, processes: Processes, process: Process, environment: Dict[str, str]) -> None:
    """Start settings.command on process.host, here or through ssh."""
    outer = os.environ if settings.base_environment is None else settings.base_environment
    base = {name: value for name, value in outer.items() if not _OUTER.match(name)}
    if network.is_local(process.host):
        base.update(environment)
        try:
            processes.start_local(process, settings.command, base)
        except OSError as e:
            raise LaunchError("cannot start '%s': %s" % (settings.command[0], e.strerror), 127) from e
        return
    base = ssh.exportable(base)
    base.update(environment)
    line = ssh.command_line(process.host, settings.ssh_port, settings.ssh_identity_file, settings.start_timeout_s)
    try:
        processes.start_remote(process, line, ssh.first_line(process.host, base, os.getcwd(), settings.command))
    except OSError as e:
        raise LaunchError("cannot start ssh for host %s: %s" % (process.host, e.strerror), 127) from e


def bind_address(settings: Settings, hosts: List[str]) -> Optional[str]:
    """Where servers of the launcher listen: only here when all workers are here; None: everywhere."""
    if all(network.is_local(host) for host in hosts):
        return "127.0.0.1"
    known = network.interface_addresses()
    named = [known[name] for name in settings.interfaces if name in known]
    # With an interface named, workers of this host use its address too.
    return named[0] if named and not any(network.is_local(host) for host in hosts) else None
