"""legacy_aliases: old scripts find numpy's and scikit-learn's old names again, and nobody else does."""
import os
import subprocess
import sys

import pytest
from conftest import BUILD

from azureml.core import Environment, Experiment, RunConfiguration, ScriptRunConfig
from azureml.core._submit import specification
from azureml.exceptions import UserErrorException
from azureml.train.estimator import Estimator

LEGACY = os.path.join(BUILD, "python", "trainyard", "legacy")
# What scripts of 2018 do: train_iris.py, train-on-local/train.py.
OLD = """
import numpy as np
from sklearn.externals import joblib
import sklearn.externals.joblib as again
x = np.array(['1', '2'], dtype=np.str).astype(np.float)
assert (np.float, np.int, np.str, np.bool, np.object) == (float, int, str, bool, object) and x.sum() == 3
assert np.zeros(2, dtype=np.bool).dtype == bool and again is joblib and joblib.__name__ == joblib.__spec__.name == 'joblib'
joblib.dump([1, 2], 'outputs/model.pkl')
"""
JOBLIB = "import pickle\ndef dump(value, path):\n    with open(path, 'wb') as f:\n        pickle.dump(value, f)\n"


@pytest.fixture
def source(project):
    """An old script, with libraries that have the places of today's."""
    project("proj/train.py", OLD)
    project("proj/joblib.py", JOBLIB)
    project("proj/sklearn/__init__.py", "")
    project("proj/sklearn/externals/__init__.py", "")


@pytest.mark.parametrize("where", ["environment", "run configuration", "estimator", "attribute"])
def test_an_old_script(source, workspace, where):
    env = Environment("old", legacy_aliases=where != "run configuration")
    if where == "attribute":
        env.legacy_aliases = False
    env.python.interpreter_path = "/usr/bin/python3"
    if where == "estimator":
        config = Estimator("proj", entry_script="train.py", environment_definition=env)
    else:
        config = ScriptRunConfig("proj", "train.py", environment=env, run_config=RunConfiguration(
            legacy_aliases=where == "run configuration"))
    if where == "attribute":
        config.run_config.environment.legacy_aliases = True
    run = Experiment(workspace, "legacy").submit(config)
    run.wait_for_completion()
    assert "outputs/model.pkl" in run.get_file_names()


def test_off_by_default(source, workspace):
    config = ScriptRunConfig("proj", "train.py")
    config.run_config.environment.python.interpreter_path = "/usr/bin/python3"
    assert "PYTHONPATH" not in specification(config)["environment_variables"]
    run = Experiment(workspace, "legacy").submit(config)
    run.wait_for_completion(raise_on_error=False)
    assert run.status == "Failed" and "cannot import name 'joblib'" in run.get_details_with_logs()["logFiles"][
        "azureml-logs/70_driver_log.txt"]


def test_the_users_path_is_kept_and_a_sitecustomize_of_his_own_is_told_of(source, project, tmp_path):
    rc = RunConfiguration(legacy_aliases=True)
    rc.environment_variables = {"PYTHONPATH": "/mine"}
    spec = specification(ScriptRunConfig("proj", run_config=rc))
    assert spec["environment_variables"]["PYTHONPATH"] == LEGACY + ":/mine" and "sitecustomize" not in str(spec["warnings"])
    rc.save(str(tmp_path), "old")
    assert RunConfiguration.load(str(tmp_path), "old").legacy_aliases is True
    project("proj/sitecustomize.py", "")
    assert "sitecustomize.py of its own" in str(specification(ScriptRunConfig("proj", run_config=rc))["warnings"])
    rc.environment.legacy_aliases = "no"
    with pytest.raises(UserErrorException, match="environment.legacy_aliases is 'no'"):
        specification(ScriptRunConfig("proj", run_config=rc))


@pytest.fixture
def python(project, tmp_path):
    """python(program): its output, with the aliases and the folder site/."""
    def go(program):
        env = dict(os.environ, PYTHONPATH=os.pathsep.join((LEGACY, str(tmp_path / "site"))), PYTHONDONTWRITEBYTECODE="1")
        return subprocess.run([sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              timeout=60).stdout.strip()
    return go


def test_a_name_that_numpy_has_stays_and_nothing_else_changes(project, python):
    project("site/numpy/__init__.py", "bool = 'its own'\n")
    project("site/numpy/part.py", "")
    assert python("import sys; print('numpy' in sys.modules)") == "False"
    assert python("import numpy, numpy.part; print(numpy.bool, numpy.float is float, numpy.part.__name__)") == "its own True numpy.part"
    assert python("import importlib, numpy; importlib.reload(numpy); print(numpy.int is int)") == "True"
    project("site/numpy/__init__.py", "raise ImportError('broken')\n")
    assert python("try:\n import numpy\nexcept ImportError as e: print(e)") == "broken"


def test_a_joblib_of_scikit_learns_own_stays(project, python):
    project("site/sklearn/externals/__init__.py", "")
    project("site/joblib.py", "")
    assert python("from sklearn.externals import joblib; print(joblib.__name__)") == "joblib"
    project("site/sklearn/externals/joblib/__init__.py", "")
    assert python("from sklearn.externals import joblib; print(joblib.__name__)") == "sklearn.externals.joblib"


def test_a_library_that_is_not_there_is_told_of_as_ever(project, python):
    project("site/sklearn/externals/__init__.py", "")
    project("site/joblib.py", "raise ModuleNotFoundError(\"No module named 'joblib'\")\n")
    assert python("try:\n from sklearn.externals import joblib\nexcept ImportError as e: print(e)") == "No module named 'joblib'"


def test_the_sitecustomize_behind_it_runs_too(project, python):
    project("site/sitecustomize.py", "print('the other one', __name__)\n")
    assert python("print('program')").splitlines() == ["the other one sitecustomize", "program"]
