"""The exceptions that scripts catch."""


class HorovodInternalError(RuntimeError):
    """An operation failed for a reason outside of this call: the ranks disagree, or one of them is gone.

    Elastic training restores the last state and goes on with the ranks that are left.
    """


class HorovodStartError(HorovodInternalError, ValueError):
    """`hvd.init()` failed: a rank is missing or cannot be reached. A ValueError too, as scripts expect of it."""


class HostsUpdatedInterrupt(RuntimeError):
    """Hosts came or went; elastic training goes on with its present state.

    skip_sync: nobody joined, so that the state need not be sent again.
    """

    def __init__(self, skip_sync: bool = False) -> None:
        super().__init__("the hosts of the job have changed")
        self.skip_sync = skip_sync


class HorovodVersionMismatchError(ImportError):
    """Never raised: nothing here is built against a version of a framework. For scripts that name it."""

    def __init__(self, name: str, version: str, installed_version: str) -> None:
        super().__init__(get_version_mismatch_message(name, version, installed_version))
        self.name, self.version, self.installed_version = name, version, installed_version


def get_version_mismatch_message(name: str, version: str, installed_version: str) -> str:
    """What HorovodVersionMismatchError says."""
    return "%s has version %s, but %s is needed" % (name, installed_version, version)
