"""Hosts and their slots, and which rank runs in which slot."""
import collections
import re
from dataclasses import dataclass
from typing import Dict, List

MAX_SLOTS = 65536
_HOST = re.compile(r"^\[?[A-Za-z0-9_.:%@-]+\]?$")


class HostInfo:
    """A host that can run `slots` workers."""

    def __init__(self, hostname: str, slots: int):
        if not _HOST.match(hostname) or hostname.startswith("-"):
            raise ValueError("'%s' is no name of a host" % hostname)
        if not 0 < slots <= MAX_SLOTS:
            raise ValueError("host %s cannot have %d slots; give 1 to %d" % (hostname, slots, MAX_SLOTS))
        self.hostname = hostname
        self.slots = slots

    def __repr__(self):
        return "%s:%d" % (self.hostname, self.slots)

    def __eq__(self, other):
        return isinstance(other, HostInfo) and repr(self) == repr(other)

    @staticmethod
    def from_string(text: str, slots: int = 1) -> "HostInfo":
        """`host`, `host:slots` or `[address]:slots`; `slots` counts where none are named."""
        text = text.strip()
        name, colon, count = text.rpartition(":")
        if not colon or text.endswith("]") or (text.count(":") > 1 and not name.endswith("]")):
            name, count = text, str(slots)      # a bare IPv6 address has colons and no slots
        if not count.isdigit():
            raise ValueError("'%s' is no host: write host:slots, such as worker-1:4" % text)
        return HostInfo(name.strip("[]"), int(count))


@dataclass
class SlotInfo:
    """One worker: its host, and its place among all."""
    hostname: str
    rank: int
    local_rank: int
    cross_rank: int
    size: int
    local_size: int = 0
    cross_size: int = 0

    def environment(self) -> Dict[str, str]:
        """The variables that tell a worker its place."""
        return {"HOROVOD_RANK": str(self.rank), "HOROVOD_SIZE": str(self.size),
                "HOROVOD_LOCAL_RANK": str(self.local_rank), "HOROVOD_LOCAL_SIZE": str(self.local_size),
                "HOROVOD_CROSS_RANK": str(self.cross_rank), "HOROVOD_CROSS_SIZE": str(self.cross_size),
                "HOROVOD_HOSTNAME": self.hostname}


def parse_hosts(text: str, slots: int = 1) -> List[HostInfo]:
    """The hosts of `a:2,b:4`; a host that is named twice has the slots of both."""
    found: Dict[str, HostInfo] = collections.OrderedDict()
    for part in text.split(","):
        if not part.strip():
            continue
        host = HostInfo.from_string(part, slots)
        if host.hostname in found:
            host = HostInfo(host.hostname, host.slots + found[host.hostname].slots)
        found[host.hostname] = host
    if not found:
        raise ValueError("'%s' names no host; write -H host:slots,host:slots" % text)
    return list(found.values())


def parse_host_files(path: str, slots: int = 1) -> str:
    """The hosts of a host file as parse_hosts() reads them: lines `host`, `host:4` or `host slots=4`, # comments."""
    hosts = []
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            words = line.split("#")[0].split()
            if not words:
                continue
            if len(words) == 1:
                hosts.append(repr_of(HostInfo.from_string(words[0], slots)))
            elif len(words) == 2 and re.match(r"^slots=\d+$", words[1]):
                hosts.append("%s:%s" % (words[0], words[1][6:]))
            else:
                raise ValueError("line %d of host file '%s' reads '%s'; write 'host slots=4'"
                                 % (number, path, line.strip()))
    if not hosts:
        raise ValueError("host file '%s' names no host" % path)
    return ",".join(hosts)


def repr_of(host: HostInfo) -> str:
    """The text that from_string() reads back."""
    return ("[%s]:%d" if ":" in host.hostname else "%s:%d") % (host.hostname, host.slots)


def place(hostnames: List[str]) -> List[SlotInfo]:
    """The places of ranks 0, 1, ...: rank i runs on hostnames[i]."""
    used: Dict[str, int] = collections.OrderedDict()
    across: Dict[int, int] = {}
    placed = []
    for rank, name in enumerate(hostnames):
        local = used.get(name, 0)
        used[name] = local + 1
        placed.append(SlotInfo(name, rank, local, across.get(local, 0), len(hostnames)))
        across[local] = across.get(local, 0) + 1
    for slot in placed:
        slot.local_size = used[slot.hostname]
        slot.cross_size = across[slot.local_rank]
    return placed


def get_host_assignments(hosts: List[HostInfo], min_num_proc: int, max_num_proc: int = None) -> List[SlotInfo]:
    """Ranks on `hosts`, filled one after the other, up to max_num_proc (default: min_num_proc)."""
    names = [h.hostname for h in hosts for _ in range(h.slots)]
    if len(names) < min_num_proc:
        raise ValueError("%d workers need %d slots, but %s have %d; raise the slots in -H host:slots or lower -np"
                         % (min_num_proc, min_num_proc, ", ".join(map(repr, hosts)), len(names)))
    return place(names[:max_num_proc or min_num_proc])
