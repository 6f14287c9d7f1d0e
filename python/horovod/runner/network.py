"""Which host is this one, and under which address do others reach it."""
import array
import fcntl
import socket
import struct
from typing import Dict, List

_SIOCGIFADDR = 0x8915


def interface_addresses() -> Dict[str, str]:
    """The IPv4 address of each interface that has one."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as s:
        for _, name in socket.if_nameindex():
            request = array.array("B", struct.pack("256s", name.encode()[:15]))
            try:
                fcntl.ioctl(s.fileno(), _SIOCGIFADDR, request)
            except OSError:
                continue
            found[name] = socket.inet_ntoa(request.tobytes()[20:24])
    return found


def is_local(hostname: str) -> bool:
    """Whether `hostname` is this host, by its name or by an address of an interface."""
    if hostname in ("localhost", "127.0.0.1", "::1", socket.gethostname(), socket.gethostname().split(".")[0]):
        return True
    try:
        addresses = {entry[4][0] for entry in socket.getaddrinfo(hostname.rpartition("@")[2], None)}
    except OSError:
        return False        # it may be a name that only the configuration of ssh knows
    return bool(addresses & set(interface_addresses().values()))


def check_interfaces(names: List[str]) -> None:
    """ValueError unless one of `names` is an interface with an address."""
    known = interface_addresses()
    if not any(name in known for name in names):
        raise ValueError("none of the network interfaces %s is here; this host has %s"
                         % (", ".join(names), ", ".join("%s (%s)" % pair for pair in sorted(known.items()))))


def address_for(hostname: str, interfaces: List[str]) -> str:
    """The address under which a worker on `hostname` reaches this host."""
    if is_local(hostname):
        return "127.0.0.1"
    known = interface_addresses()
    for name in interfaces:
        if name in known:
            return known[name]
    try:        # connecting a datagram socket sends nothing: it only asks the routing table
        family, kind, protocol, _, address = socket.getaddrinfo(
            hostname.rpartition("@")[2], 9, socket.AF_INET, socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind | socket.SOCK_CLOEXEC, protocol) as s:
            s.connect(address)
            return s.getsockname()[0]
    except OSError:
        return socket.gethostname()
