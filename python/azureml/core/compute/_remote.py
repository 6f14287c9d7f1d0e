"""RemoteCompute: machines of one's own, reached with ssh."""
import os
from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Union

from azureml.core._service import cloud_only
from azureml.core.compute_target import ComputeTarget
from azureml.exceptions import ComputeTargetException, UserErrorException

if TYPE_CHECKING:
    from azureml.core.workspace import Workspace

HOST_KEYS = ("host", "port", "user", "identity_file", "cpus", "memory_mb", "gpus")
Address = Union[str, Dict[str, Any], Sequence[Union[str, Dict[str, Any]]]]


class RemoteCompute(ComputeTarget):
    """Machines that the system's ssh reaches, each a node. Nothing of Trainyard need be there before, and no file system is shared."""

    _compute_type = "VirtualMachine"

    def _ask(self) -> Dict[str, Any]:
        record = super()._ask()
        if record["spec"]["kind"] != "hosts":
            raise ComputeTargetException("ComputeTargetNotFound: there is no RemoteCompute '%s': the compute target of that name is of "
                                         "kind '%s'; ComputeTarget(workspace, '%s') gives it"
                                         % (self.name, record["spec"]["kind"], self.name))
        return record

    @property
    def address(self) -> str:
        """The address of its first machine."""
        return str(self._record["spec"]["hosts"][0]["host"])

    @property
    def addresses(self) -> List[str]:
        """The addresses of all its machines (Trainyard's own)."""
        return [str(host["host"]) for host in self._record["spec"]["hosts"]]

    @property
    def username(self) -> Optional[str]:
        """The user on its first machine; None: as ssh's configuration says."""
        return self._record["spec"]["hosts"][0].get("user")

    @property
    def ssh_port(self) -> int:
        """The port of its first machine."""
        return int(self._record["spec"]["hosts"][0].get("port") or 22)

    @staticmethod
    def attach_configuration(username: Optional[str] = None, address: Optional[Address] = None, ssh_port: int = 22,
                             password: str = "", private_key_file: str = "", private_key_passphrase: str = "",
                             resource_id: Any = None, max_nodes: Optional[int] = None, description: Optional[str] = None,
                             ssh_config: Optional[str] = None, ssh_options: Optional[Sequence[str]] = None,
                             folder: Optional[str] = None) -> "RemoteComputeAttachConfiguration":
        """What ``ComputeTarget.attach`` needs. UserErrorException for a value of the wrong kind.

        address: a host name, an address, or a Host of ssh's configuration. Trainyard's own: a list of them makes a target of several
        nodes; an entry may be a dictionary with 'host' and any of 'port', 'user', 'identity_file', 'cpus', 'memory_mb', 'gpus'.
        username, ssh_port, private_key_file: for all of them; left out, ssh's configuration says. max_nodes: nodes that runs may
        hold at once (default: all). ssh_config, ssh_options: a configuration file for ssh, and options such as 'ProxyJump=gate'.
        folder: for our files on each machine (default: ~/.cache/trainyard).
        ssh with keys is the only way in: password and private_key_passphrase are refused. resource_id means something only in the
        cloud.
        """
        if password:
            raise UserErrorException("RemoteCompute: password: Trainyard logs in with ssh keys, and keeps no passwords; run `ssh-copy-id "
                                     "%s` once, and leave password out" % _destination(username, address))
        if private_key_passphrase:
            raise UserErrorException("RemoteCompute: private_key_passphrase: Trainyard keeps no passphrases; give the key to your agent once "
                                     "with `ssh-add %s`, and leave private_key_passphrase out" % (private_key_file or "KEY"))
        cloud_only("RemoteCompute: resource_id", bool(resource_id))
        return RemoteComputeAttachConfiguration(username, address, ssh_port, private_key_file, max_nodes, description, ssh_config,
                                                ssh_options, folder)

    @staticmethod
    def attach(workspace: "Workspace", name: str, username: Any = None, address: Optional[Address] = None,  # type: ignore[override]
               ssh_port: int = 22, password: str = "", private_key_file: str = "", private_key_passphrase: str = "",
               attach_configuration: Any = None, **own: Any) -> "ComputeTarget":
        """The older form of ``ComputeTarget.attach``, which takes the parameters of attach_configuration itself."""
        given = attach_configuration
        if given is None and isinstance(username, RemoteComputeAttachConfiguration):
            given = username
        if given is None:
            given = RemoteCompute.attach_configuration(username, address, ssh_port, password, private_key_file, private_key_passphrase,
                                                       **own)
        return ComputeTarget.attach(workspace, name, given)


class RemoteComputeAttachConfiguration:
    """Machines to be attached; see ``RemoteCompute.attach_configuration``."""

    def __init__(self, username: Optional[str], address: Optional[Address], ssh_port: Any, private_key_file: Any,
                 max_nodes: Optional[int], description: Optional[str], ssh_config: Optional[str],
                 ssh_options: Optional[Sequence[str]], folder: Optional[str] = None) -> None:
        for name, value in (("username", username), ("private_key_file", private_key_file), ("ssh_config", ssh_config),
                            ("folder", folder)):
            if value is not None and not isinstance(value, (str, os.PathLike)):
                raise UserErrorException("RemoteCompute: %s is of type %s; a text is needed" % (name, type(value).__name__))
        self.username = username or None
        self.ssh_port = _number("ssh_port", ssh_port, 65535)
        self.private_key_file = _file("private_key_file", private_key_file) if private_key_file else None
        self.max_nodes = None if max_nodes is None else _number("max_nodes", max_nodes, 100000)
        self.description = description
        self.ssh_config = _file("ssh_config", ssh_config) if ssh_config else None
        self.ssh_options = list(ssh_options or [])
        self.folder = folder or None
        places = [address] if isinstance(address, (str, dict)) else address
        if not isinstance(places, (list, tuple)) or not places:
            raise UserErrorException("RemoteCompute: address is %r; a host name, or a list of them, is needed" % (address,))
        self.hosts = [self._host(place) for place in places]
        self.address = self.hosts[0]["host"]

    def _host(self, place: Any) -> Dict[str, Any]:
        given = {"host": place} if isinstance(place, str) else place
        if not isinstance(given, dict) or not isinstance(given.get("host"), str) or not given["host"]:
            raise UserErrorException("RemoteCompute: address holds %r; a host name, or a dictionary with 'host', is needed" % (place,))
        for key in given:
            if key not in HOST_KEYS:
                raise UserErrorException("RemoteCompute: address: '%s' has the key '%s'; there are %s"
                                         % (given["host"], key, ", ".join("'%s'" % k for k in HOST_KEYS)))
        common = {"user": self.username, "identity_file": self.private_key_file, "port": None if self.ssh_port == 22 else self.ssh_port}
        return {**{k: v for k, v in common.items() if v is not None}, **given}

    def _spec(self) -> Dict[str, Any]:
        spec = {"kind": "hosts", "hosts": self.hosts, "max_nodes": self.max_nodes, "description": self.description,
                "ssh_config": self.ssh_config, "ssh_options": self.ssh_options or None, "folder": self.folder}
        return {key: value for key, value in spec.items() if value is not None}


def _destination(username: Any, address: Any) -> str:
    first = address[0] if isinstance(address, (list, tuple)) and address else address
    host = first.get("host", "HOST") if isinstance(first, dict) else first or "HOST"
    return "%s@%s" % (username, host) if username else str(host)


def _number(name: str, value: Any, largest: int) -> int:
    """A number from 1 on; scripts also pass '22'."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if isinstance(value, bool) or not 1 <= number <= largest:
        raise UserErrorException("RemoteCompute: %s is %r; a whole number from 1 to %d is needed" % (name, value, largest))
    return number


def _file(name: str, path: Any) -> str:
    place = os.path.abspath(os.path.expanduser(os.fspath(path)))
    if not os.path.isfile(place):
        raise UserErrorException("RemoteCompute: %s '%s' is no file of this box" % (name, path))
    return place
