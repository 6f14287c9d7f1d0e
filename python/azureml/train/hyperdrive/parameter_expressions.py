"""Searches over hyperparameters come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_names

__all__ = ["choice", "lognormal", "loguniform", "normal", "qlognormal", "qloguniform", "qnormal", "quniform", "randint",
           "uniform"]

(choice, randint, uniform, quniform, loguniform, qloguniform, normal, qnormal, lognormal, qlognormal) = later_names(
    __name__, "choice randint uniform quniform loguniform qloguniform normal qnormal lognormal qlognormal",
    "a search over hyperparameters",
    "submit one run per choice: Experiment.submit in a loop over the values, and compare run.get_metrics()")
