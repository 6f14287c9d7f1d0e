"""Pipelines come with a later release; the names import, and say so on first use."""
from azureml.core._later import placeholders

__all__ = ["DataTransferStep", "EstimatorStep", "HyperDriveStep", "MpiStep", "ParallelRunConfig", "ParallelRunStep",
           "PythonScriptStep"]

(DataTransferStep, EstimatorStep, HyperDriveStep, MpiStep, ParallelRunConfig, ParallelRunStep, PythonScriptStep) = placeholders(
    __name__, "DataTransferStep EstimatorStep HyperDriveStep MpiStep ParallelRunConfig ParallelRunStep "
    "PythonScriptStep",
    "a pipeline", "submit the scripts one after the other, with run.wait_for_completion() between them")
