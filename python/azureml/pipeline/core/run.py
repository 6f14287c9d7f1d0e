"""Pipelines come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_names

__all__ = ["PipelineRun", "StepRun"]

(PipelineRun, StepRun) = later_names(
    __name__, "PipelineRun StepRun",
    "a pipeline", "submit the scripts one after the other, with run.wait_for_completion() between them")
