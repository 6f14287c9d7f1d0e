"""The place of RunDetails in the SDK of 2018."""
from azureml.widgets import RunDetails

__all__ = ["RunDetails"]
