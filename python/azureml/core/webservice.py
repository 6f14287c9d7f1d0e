"""Web services come with a later release; the names import, and say so on first use."""
from azureml.core._later import later_names

__all__ = ["AciWebservice", "AksEndpoint", "AksWebservice", "LocalWebservice", "Webservice"]

(AciWebservice, AksEndpoint, AksWebservice, LocalWebservice, Webservice) = later_names(
    __name__, "AciWebservice AksEndpoint AksWebservice LocalWebservice Webservice",
    "a web service", "load the model from outputs/ in a program of your own")
