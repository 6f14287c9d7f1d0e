"""ScriptRun: the run of a submitted script."""
from azureml.core.run import Run


class ScriptRun(Run):
    """What ``Experiment.submit`` returns."""

    TYPE = "azureml.scriptrun"


__all__ = ["ScriptRun"]
