"""The limit of snapshots. Users assign another number to ``SNAPSHOT_MAX_SIZE_BYTES``, here or in ``constants``."""
from azureml._restclient import constants

_DEFAULT = constants.SNAPSHOT_MAX_SIZE_BYTES
SNAPSHOT_MAX_SIZE_BYTES = _DEFAULT


def _limit_bytes() -> int:
    """The limit that holds now: what was assigned in either place, 0 for the service's own."""
    for value in (SNAPSHOT_MAX_SIZE_BYTES, constants.SNAPSHOT_MAX_SIZE_BYTES):
        if value != _DEFAULT:
            return int(value)
    return 0
