"""The error classes themselves; some libraries import them from here."""
from typing import Any, Optional


class AzureMLException(Exception):
    """Base of all. ``message`` is one sentence; ``inner_exception`` what caused it, or None."""

    def __init__(self, exception_message: str = "", inner_exception: Optional[BaseException] = None, **kwargs: Any) -> None:
        super().__init__(exception_message)
        self.message = exception_message
        self.inner_exception = inner_exception
        self.error_details = kwargs.get("error_details")

    def __str__(self) -> str:
        return self.message


class UserErrorException(AzureMLException):
    """What was asked for contradicts itself, does not exist, or is not offered; the text says what to do."""


class SnapshotException(UserErrorException):
    """``source_directory`` cannot be stored, for example because it is over its limit."""


class ComputeTargetException(AzureMLException):
    """There is no such compute target, or it cannot be made or changed."""


class ActivityFailedException(AzureMLException):
    """A run ended as Failed; the text has the exit code or signal and the last lines of its log. ``error_details`` is
    ``run.get_details()``."""


class ExperimentExecutionException(AzureMLException):
    """A run could not be submitted, or waiting for it was interrupted (Ctrl-C)."""


class RunEnvironmentException(AzureMLException):
    """``Run.get_context(allow_offline=False)`` outside of a run."""


class WebserviceException(AzureMLException):
    """About web services, which come with a later release; ``except`` clauses name it."""


class DatasetTimestampMissingError(AzureMLException):
    """About datasets, which come with a later release; ``except`` clauses name it."""


class AuthenticationException(AzureMLException):
    """The service belongs to another user."""


class ServiceException(AzureMLException):
    """The service cannot be reached, is of another version, or cannot do its work now. ``status_code`` is always None."""

    status_code: Optional[int] = None
