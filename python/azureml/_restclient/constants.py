"""Words of the service."""


class RunStatus:
    """The states of a run: NAME in upper case -> the word that ``run.status`` gives."""

    NOT_STARTED = "NotStarted"
    STARTING = "Starting"
    PROVISIONING = "Provisioning"
    PREPARING = "Preparing"
    QUEUED = "Queued"
    RUNNING = "Running"
    FINALIZING = "Finalizing"
    COMPLETED = "Completed"
    FAILED = "Failed"
    CANCEL_REQUESTED = "CancelRequested"
    CANCELED = "Canceled"
    NOT_RESPONDING = "NotResponding"
    PAUSED = "Paused"
    UNAPPROVED = "Unapproved"
    UNKNOWN = "Unknown"

    @classmethod
    def list(cls) -> "list[str]":
        """All states, in the order of a run's life."""
        return [v for k, v in vars(cls).items() if k.isupper()]

    @classmethod
    def get_running_statuses(cls) -> "list[str]":
        """The states that are no end."""
        return [v for v in cls.list() if v not in TERMINAL]


TERMINAL = (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELED)

SNAPSHOT_MAX_SIZE_BYTES = 300 * 1000 * 1000
"""Bytes that a snapshot may have. Assigning another number here, or in ``snapshots_client``, changes the limit."""
