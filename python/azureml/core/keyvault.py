"""It comes with a later release; importing it says so."""
from azureml.core._service import later_module

raise later_module(__name__)
