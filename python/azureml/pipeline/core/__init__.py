"""Pipelines come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_names
from azureml.pipeline.core.graph import PipelineParameter
from azureml.pipeline.core.run import PipelineRun, StepRun

__all__ = [
    "Pipeline", "PipelineData", "PipelineEndpoint", "PipelineParameter", "PipelineRun", "PublishedPipeline", "Schedule", "StepRun",
    "StepSequence", "TrainingOutput",
]

(Pipeline, PipelineData, PipelineEndpoint, PublishedPipeline, Schedule, StepSequence, TrainingOutput) = later_names(
    __name__, "Pipeline PipelineData PipelineEndpoint PublishedPipeline Schedule StepSequence TrainingOutput",
    "a pipeline", "submit the scripts one after the other, with run.wait_for_completion() between them")
