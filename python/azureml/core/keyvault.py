"""The key vault comes with a later release; the name imports, and says so on first use."""
from azureml.core._later import later_name

__all__ = ["Keyvault"]

Keyvault = later_name(
    __name__ + ".Keyvault",
    "a key vault", "pass the value in environment_variables")
