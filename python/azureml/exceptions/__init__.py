"""Errors of the SDK. ``except`` clauses of scripts name these classes."""
from azureml.exceptions._azureml_exception import (
    ActivityFailedException,
    AuthenticationException,
    AzureMLException,
    ComputeTargetException,
    DatasetTimestampMissingError,
    ExperimentExecutionException,
    RunEnvironmentException,
    ServiceException,
    SnapshotException,
    UserErrorException,
    WebserviceException,
)

__all__ = [
    "ActivityFailedException", "AuthenticationException", "AzureMLException", "ComputeTargetException", "DatasetTimestampMissingError",
    "ExperimentExecutionException", "RunEnvironmentException", "ServiceException", "SnapshotException", "UserErrorException",
    "WebserviceException",
]
