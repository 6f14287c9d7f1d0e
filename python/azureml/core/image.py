"""Images of web services come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_names

__all__ = ["ContainerImage", "Image"]

(ContainerImage, Image) = later_names(
    __name__, "ContainerImage Image",
    "an image of a web service", "load the model from outputs/ in a program of your own")
