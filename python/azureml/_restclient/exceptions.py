"""Errors of the service, by their private path."""
from azureml.exceptions import ServiceException

__all__ = ["ServiceException"]
