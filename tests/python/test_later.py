"""What a later release brings is refused by its name; what only logs never ends a training."""
import importlib

import pytest
from azureml.core.run import Run
from azureml.exceptions import UserErrorException


@pytest.mark.parametrize("module", ["azureml.core.model", "azureml.core.keyvault", "azureml.core.dataset",
                                    "azureml.core.webservice", "azureml.core.image", "azureml.train.hyperdrive", "azureml.pipeline"])
def test_modules(module):
    with pytest.raises(ImportError, match="%s comes with a later release of Trainyard" % module):
        importlib.import_module(module)


def test_names_of_modules():
    with pytest.raises(ImportError, match="azureml.core.Dataset comes with a later release"):
        from azureml.core import Dataset  # noqa: F401
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from azureml.core import Nonsense  # noqa: F401


def test_methods_of_a_run(submit):
    run = submit("pass\n")
    with pytest.raises(UserErrorException, match="run.submit_child comes with a later release"):
        run.submit_child(None)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        run.nonsense
    assert not hasattr(run, "register_model")  # as scripts ask
    run.wait_for_completion()


def test_logging_of_a_later_release_does_not_end_a_training(submit):
    run = submit("""
import warnings
from azureml.core.run import Run
run = Run.get_context()
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    run.log_image("picture", path="x.png")
    run.log_image("picture", path="y.png")
    run.log_confusion_matrix("m", {})
assert len(caught) == 2 and "'picture' is not kept" in str(caught[0].message), [str(w.message) for w in caught]
run.log("after", 1)
""")
    assert run.wait_for_completion()["status"] == "Completed"
    assert run.get_metrics() == {"after": 1}


def test_offline(capsys):
    Run.get_context().log_image("picture", path="x.png")
    assert "Attempted to log image picture" in capsys.readouterr().out


def test_names_of_metrics(submit):
    run = submit("""
from azureml.core.run import Run
from azureml.exceptions import UserErrorException
run = Run.get_context()
for name, why in ((5, "of type int; a text"), ("", "is empty"), (None, "of type NoneType")):
    try:
        run.log(name, 1)
    except UserErrorException as error:
        assert why in str(error), error
    else:
        raise AssertionError(name)
""")
    assert run.wait_for_completion()["status"] == "Completed"


def test_ctrl_c_while_waiting(submit, monkeypatch):
    from azureml.core import _run_wait
    from azureml.exceptions import ExperimentExecutionException

    def interrupted(*_):
        raise KeyboardInterrupt

    run = submit("pass\n")
    with monkeypatch.context() as patch:
        patch.setattr(_run_wait, "_follow", interrupted)
        with pytest.raises(ExperimentExecutionException, match="trainyard logs -f %s" % run.id):
            run.wait_for_completion(show_output=True)
    run.wait_for_completion()
