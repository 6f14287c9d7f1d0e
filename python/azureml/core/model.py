"""Models come with a later release; the names import, and say so on first use."""
from azureml.core._later import placeholder

__all__ = ["InferenceConfig", "Model"]

Model = placeholder(
    __name__ + ".Model",
    "a registered model", "keep models in outputs/, and get them with run.download_file()")

InferenceConfig = placeholder(
    __name__ + ".InferenceConfig",
    "a web service", "load the model from outputs/ in a program of your own")
