"""Secrets, as notebooks and scripts use them."""
import os

import pytest
from azureml.core import Keyvault
from azureml.exceptions import UserErrorException

HEAD = "from azureml.core import Run\nrun = Run.get_context()\n"


def test_a_vault(workspace):
    vault = workspace.get_default_keyvault()
    assert isinstance(vault, Keyvault) and vault.get_secret("absent") is None
    vault.set_secret(name="token", value="open sesame")
    vault.set_secrets({"more": "grün", "other": "x"})
    vault.set_secret("other", "y")
    assert vault.get_secret(name="token") == "open sesame"
    assert vault.get_secrets(["more", "other", "absent"]) == {"more": "grün", "other": "y", "absent": None}
    assert {"token", "more", "other"} <= {s["name"] for s in vault.list_secrets()}
    vault.delete_secrets(["more", "other"])
    assert vault.get_secret("more") is None
    with pytest.raises(UserErrorException, match="there is no secret 'more'"):
        vault.delete_secret("more")
    for name, value in (("a b", "x"), ("", "x"), ("empty", ""), ("number", 5), ("big", "x" * 70000)):
        with pytest.raises(UserErrorException):
            vault.set_secret(name, value)


def test_in_a_script(workspace, submit):
    workspace.get_default_keyvault().set_secret("for-script", "swordfish")
    run = submit(HEAD + """
run.log('is', int(run.get_secret(name='for-script') == 'swordfish'))
run.log('none', int(run.get_secrets(['for-script', 'absent']) == {'for-script': 'swordfish', 'absent': None}))
""")
    run.wait_for_completion()
    assert run.get_metrics() == {"is": 1, "none": 1} and run.get_secret("for-script") == "swordfish"


def test_nothing_of_it_in_the_files(workspace):
    workspace.get_default_keyvault().set_secret("hidden", "needle-in-a-haystack")
    for folder, _, files in os.walk(os.environ["TRAINYARD_HOME"]):
        for name in filter(lambda n: os.path.isfile(os.path.join(folder, n)), files):
            with open(os.path.join(folder, name), "rb") as file:
                assert b"needle-in-a-haystack" not in file.read(), name
