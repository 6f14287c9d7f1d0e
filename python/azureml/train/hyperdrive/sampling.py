"""Searches over hyperparameters come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_names

__all__ = ["BayesianParameterSampling", "GridParameterSampling", "RandomParameterSampling"]

(RandomParameterSampling, GridParameterSampling, BayesianParameterSampling) = later_names(
    __name__, "RandomParameterSampling GridParameterSampling BayesianParameterSampling",
    "a search over hyperparameters",
    "submit one run per choice: Experiment.submit in a loop over the values, and compare run.get_metrics()")
