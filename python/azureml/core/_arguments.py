"""From what users write as arguments to the texts and data references of a run specification."""
import os
from typing import Any, Dict, Iterable, List, Mapping, Tuple

from azureml.core._service import later
from azureml.core.runconfig import DataReferenceConfiguration
from azureml.data.datapath import DataPath
from azureml.data.data_reference import DataReference
from azureml.data.dataset_consumption_config import DatasetConsumptionConfig
from azureml.exceptions import UserErrorException

References = Dict[str, Any]  # DataReferenceConfiguration, and DatasetConsumptionConfig until take_datasets()


def word(value: Any, what: str, references: References) -> str:
    """One argument as text. A datastore or data reference becomes its placeholder, and is added to `references`.

    UserErrorException, naming `what`, for what is no single value.
    """
    from azureml.core.datastore import Datastore
    from azureml.data.file_dataset import FileDataset

    if isinstance(value, FileDataset):
        value = value.as_mount()
    if isinstance(value, DatasetConsumptionConfig):
        add_reference(references, value, what)
        return str(value)
    if isinstance(value, Datastore):
        value = value.as_mount()
    elif isinstance(value, DataPath):
        value = value.create_data_reference()
    if isinstance(value, DataReference):
        add_reference(references, value, what)
        return str(value)
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if hasattr(value, "item") and not getattr(value, "ndim", 0):  # a scalar of numpy or torch
        value = value.item()
    if not isinstance(value, (str, bool, int, float)):
        hint = "; '' gives a bare flag" if value is None else ""
        raise UserErrorException("%s is of type %s; a text, a number, a Datastore or a DataReference is needed%s"
                                 % (what, type(value).__name__, hint))
    text = str(value)
    if "\0" in text:
        raise UserErrorException("%s contains a NUL character, which no argument can hold" % what)
    return text


def words(values: Iterable[Any], references: References, what: str = "arguments") -> List[str]:
    """A list of arguments as texts."""
    return [word(v, "entry %d of %s" % (i, what), references) for i, v in enumerate(values, 1)]


def script_words(params: Any, references: References) -> List[str]:
    """``script_params`` as texts: flag, value, flag, value, ... in the dictionary's order; the value '' gives a bare flag."""
    if params is None:
        return []
    if not isinstance(params, Mapping):
        raise UserErrorException("script_params is of type %s; a dictionary of flag -> value is needed" % type(params).__name__)
    found: List[str] = []
    for flag, value in params.items():
        if not isinstance(flag, str):
            raise UserErrorException("script_params: the flag %r is of type %s; a text such as '--lr' is needed"
                                     % (flag, type(flag).__name__))
        found.append(flag)
        if not (isinstance(value, str) and value == ""):
            found.append(word(value, "the value of '%s' in script_params" % flag, references))
    return found


def add_reference(references: References, reference: Any, what: str) -> None:
    """Add a data reference or a dataset; one of the same name has to be the same."""
    dataset = isinstance(reference, DatasetConsumptionConfig)
    config, name = (reference, reference.name) if dataset else (reference.to_config(), reference.data_reference_name)
    there = references.get(name)
    if there is not None and (type(there) is not type(config) or vars(there) != vars(config)):
        raise UserErrorException("%s: there are two different %s called '%s'; give one of them %s" % (
            what, *(("datasets", name, "another name") if dataset else ("data references", name, "a data_reference_name"))))
    references[name] = config


def add_inputs(references: References, inputs: Any) -> None:
    """``inputs`` of an estimator: data references and datasets that no argument names."""
    from azureml.data.file_dataset import FileDataset

    if inputs is None:
        return
    if isinstance(inputs, (str, bytes)) or not isinstance(inputs, Iterable):
        raise UserErrorException("inputs is of type %s; a list of DataReference or of datasets is needed" % type(inputs).__name__)
    for one in inputs:
        if isinstance(one, FileDataset):
            raise UserErrorException("inputs: a FileDataset has no name; give dataset.as_named_input('name')")
        if not isinstance(one, (DataReference, DatasetConsumptionConfig)):
            raise later("inputs: a %s" % type(one).__name__, "give a DataReference, for example datastore.path('x').as_mount()")
        add_reference(references, one, "inputs")


def as_references(value: Any) -> References:
    """``run_config.data_references``: name -> DataReferenceConfiguration (a DataReference and a dataset are taken too)."""
    if not isinstance(value, Mapping):
        raise UserErrorException("run_config.data_references is of type %s; a dictionary of name -> DataReferenceConfiguration is "
                                 "needed" % type(value).__name__)
    found: References = {}
    for name, one in value.items():
        config = one.to_config() if isinstance(one, DataReference) else one
        if not isinstance(config, (DataReferenceConfiguration, DatasetConsumptionConfig)):
            raise UserErrorException("run_config.data_references: '%s' is of type %s; a DataReferenceConfiguration is needed"
                                     % (name, type(one).__name__))
        found[str(name)] = config
    return found


def add_data(references: References, data: Any) -> None:
    """``run_config.data``: name -> dataset, with or without ``as_named_input``."""
    from azureml.data.file_dataset import FileDataset

    if not isinstance(data, Mapping):
        raise UserErrorException("run_config.data is of type %s; a dictionary of name -> dataset is needed" % type(data).__name__)
    for name, one in data.items():
        one = one.as_named_input(name) if isinstance(one, FileDataset) else one
        if not isinstance(one, DatasetConsumptionConfig):
            raise UserErrorException("run_config.data: '%s' is of type %s; a dataset is needed, for example Dataset.File.from_files(...)"
                                     ".as_named_input('%s').as_mount()" % (name, type(one).__name__, name))
        add_reference(references, one, "run_config.data")


def take_datasets(references: References) -> Tuple[Dict[str, Any], Dict[str, str]]:
    """Put the data references of datasets in their place: (datasets by name, variables by name, which name others of the job)."""
    datasets: Dict[str, Any] = {n: one for n, one in references.items() if isinstance(one, DatasetConsumptionConfig)}
    variables: Dict[str, str] = {}
    for name, one in datasets.items():
        del references[name]
        parts, variables[one.name] = one._parts()
        for part in parts:
            if part in references:
                raise UserErrorException("the dataset '%s' and a data reference are both called '%s'; give one of them another name" % (name, part))
        references.update(parts)
    return datasets, variables


def environment_variables(*sources: Tuple[str, Any]) -> Dict[str, str]:
    """Variables of several (what, dictionary), later ones winning; values become texts."""
    found: Dict[str, str] = {}
    for what, values in sources:
        if values is None:
            continue
        if not isinstance(values, Mapping):
            raise UserErrorException("%s is of type %s; a dictionary of name -> value is needed" % (what, type(values).__name__))
        for name, value in values.items():
            if not isinstance(name, str) or not isinstance(value, (str, bool, int, float)):
                raise UserErrorException("%s: the value of %r is of type %s; a text or a number is needed"
                                         % (what, name, type(value).__name__))
            found[name] = str(value)
    return found
