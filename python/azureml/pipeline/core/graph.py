"""Pipelines come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_name

__all__ = ["PipelineParameter"]

PipelineParameter = later_name(
    __name__ + ".PipelineParameter",
    "a pipeline", "submit the scripts one after the other, with run.wait_for_completion() between them")
