"""Searches over hyperparameters come with a later release; the names import, and say so on first use."""
from azureml.train.hyperdrive.parameter_expressions import (
    choice, lognormal, loguniform, normal, qlognormal, qloguniform, qnormal, quniform, randint, uniform,
)
from azureml.train.hyperdrive.policy import BanditPolicy, MedianStoppingPolicy, NoTerminationPolicy, TruncationSelectionPolicy
from azureml.train.hyperdrive.run import HyperDriveRun, PrimaryMetricGoal
from azureml.train.hyperdrive.runconfig import HyperDriveConfig, HyperDriveRunConfig
from azureml.train.hyperdrive.sampling import BayesianParameterSampling, GridParameterSampling, RandomParameterSampling

__all__ = [
    "BanditPolicy", "BayesianParameterSampling", "GridParameterSampling", "HyperDriveConfig", "HyperDriveRun",
    "HyperDriveRunConfig", "MedianStoppingPolicy", "NoTerminationPolicy", "PrimaryMetricGoal", "RandomParameterSampling",
    "TruncationSelectionPolicy", "choice", "lognormal", "loguniform", "normal", "qlognormal", "qloguniform", "qnormal",
    "quniform", "randint", "uniform",
]
