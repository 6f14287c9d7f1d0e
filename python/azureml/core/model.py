"""Models come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_name

__all__ = ["InferenceConfig", "Model"]

Model = later_name(
    __name__ + ".Model",
    "a registered model", "keep models in outputs/, and get them with run.download_file()")

InferenceConfig = later_name(
    __name__ + ".InferenceConfig",
    "a web service", "load the model from outputs/ in a program of your own")
