"""Workspace and its configuration file, the way scripts use them."""
import json

import pytest

from azureml.core import VERSION, Environment, Workspace
from azureml.exceptions import UserErrorException


def test_without_a_file_the_default_one(project):
    ws = Workspace.from_config()
    assert ws.name == "trainyard"
    print(ws.name, ws.location, ws.resource_group, ws.subscription_id, sep="\t")
    assert all(isinstance(v, str) and v for v in (ws.location, ws.resource_group, ws.subscription_id))


@pytest.mark.parametrize("place", ["config.json", ".azureml/config.json", "aml_config/config.json"])
def test_the_nearest_file_is_read(project, place, monkeypatch, tmp_path):
    project(place, json.dumps({"subscription_id": "s", "resource_group": "g", "workspace_name": "mine"}))
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    monkeypatch.chdir(deep)
    ws = Workspace.from_config()
    assert (ws.subscription_id, ws.resource_group, ws.name) == ("s", "g", "mine")
    assert Workspace.from_config(path=str(tmp_path / place)).name == "mine"


def test_write_config_and_back(project, tmp_path):
    Workspace("s", "g", "written").write_config(str(tmp_path))
    assert (tmp_path / ".azureml" / "config.json").is_file()
    assert Workspace.from_config() == Workspace("s", "g", "written")


@pytest.mark.parametrize("text, word", [
    ("{", "JSON"), ('{"subscription_id": "s", "workspace_name": "w"}', "resource_group"),
    ('{"subscription_id": "s", "resource_group": "g", "workspace_name": 3}', "workspace_name")])
def test_a_malformed_file_is_told_of(project, text, word):
    path = project("config.json", text)
    with pytest.raises(UserErrorException, match=word) as caught:
        Workspace.from_config()
    assert str(path) in str(caught.value)


def test_another_programs_config_json_is_left_alone(project):
    project("config.json", '{"hidden_size": 768}')
    assert Workspace.from_config().name == "trainyard"


def test_a_path_that_does_not_exist(project):
    with pytest.raises(UserErrorException, match="'nowhere/config.json' does not exist"):
        Workspace.from_config("nowhere/config.json")


def test_names_are_checked():
    for name in ("", "a b", "-x", None):
        with pytest.raises(UserErrorException):
            Workspace("s", "g", name)


def test_create_get_and_repr(project):
    ws = Workspace.create(name="mine", subscription_id="s", resource_group="g", location="eastus2", create_resource_group=True,
                          exist_ok=True, sku="basic")
    assert repr(ws) == "Workspace.create(name='mine', subscription_id='s', resource_group='g')"
    assert Workspace.get("mine", subscription_id="s", resource_group="g") == ws
    assert isinstance(VERSION, str) and VERSION[0].isdigit()


def test_what_it_holds(workspace):
    assert "local" in workspace.compute_targets
    assert [t.name for t in workspace.compute_targets()].count("local") == 1
    assert "workspaceblobstore" in workspace.datastores
    assert workspace.get_default_datastore().name == "workspaceblobstore"
    assert workspace.get_default_compute_target(type="CPU").name == "local"
    assert {"id", "name", "location", "type", "workspaceid", "storageAccount"} <= set(workspace.get_details())
    with pytest.raises(UserErrorException, match="no_such_run"):
        workspace.get_run("no_such_run")


def test_configuration_notebook(project, tmp_path):
    """try the constructor, else create; write the configuration; from_config elsewhere."""
    try:
        ws = Workspace(subscription_id="s", resource_group="g", workspace_name="mine")
        ws.write_config()
    except Exception as error:
        pytest.fail("the notebook would say that it is not accessible: %s" % error)
    ws = Workspace.create("mine", None, "s", "g", location="eastus2", create_resource_group=True, sku="basic", exist_ok=True)
    ws.write_config(path="deep/er", file_name="other.json")
    assert Workspace.from_config(path="deep/er", _file_name="other.json") == ws
    assert Workspace.from_config(path=str(tmp_path / "deep" / "er" / ".azureml" / "other.json")) == ws
    assert repr(Workspace.from_config()) == "Workspace.create(name='mine', subscription_id='s', resource_group='g')"
    project("file", "")
    with pytest.raises(UserErrorException, match="cannot be written"):
        ws.write_config("file")
    with pytest.raises(UserErrorException, match="'colour'"):
        Workspace.create("mine", colour="red")
    with pytest.warns(UserWarning, match="key_vault"):
        Workspace.create("mine", key_vault="x")


def test_list(workspace):
    found = Workspace.list("s", resource_group="g")
    assert {n: [w.name for w in ws] for n, ws in found.items()} == {"trainyard": ["trainyard"]}
    assert found["trainyard"][0].subscription_id == "s"


def test_details(workspace):
    details = workspace.get_details()
    assert set(details) == {
        "id", "name", "location", "type", "workspaceid", "description", "friendlyName", "creationTime", "containerRegistry", "keyVault",
        "applicationInsights", "identityPrincipalId", "identityTenantId", "identityType", "storageAccount"}
    assert details["creationTime"].startswith("20") and details["workspaceid"] == workspace._workspace_id
    assert details["creationTime"] == workspace.get_details()["creationTime"]


def test_environments_are_the_curated_ones(workspace):
    assert sorted(workspace.environments) == sorted(Environment.list(workspace=workspace))
    assert workspace.environments["AzureML-Minimal"].name == "AzureML-Minimal"
    with pytest.raises(KeyError):
        workspace.environments["nobodys"]


@pytest.mark.parametrize("name", ["models", "images", "webservices", "linked_services"])
def test_dictionaries_of_a_later_release_are_empty(workspace, name):
    found = getattr(workspace, name)
    assert len(found) == 0 and list(found) == [] and found() == [] and found.get("x") is None and "x" not in found
    with pytest.raises(UserErrorException, match=r"\('x'\) comes with a later release"):
        found["x"]
    with pytest.raises(KeyError):
        found["x"]


def test_the_default_datastore(workspace):
    workspace.set_default_datastore("workspaceblobstore")
    with pytest.raises(UserErrorException, match="there is no datastore 'x'"):
        workspace.set_default_datastore("x")


def test_what_a_workspace_refuses(workspace):
    with pytest.raises(UserErrorException, match="trainyard down"):
        workspace.delete()
    with pytest.raises(UserErrorException, match="MLFLOW_TRACKING_URI"):
        workspace.get_mlflow_tracking_uri()
    with pytest.raises(UserErrorException, match="type is 'TPU'"):
        workspace.get_default_compute_target("TPU")


def test_experiments(submit, workspace):
    submit("pass\n", experiment="in-the-workspace").wait_for_completion()
    assert workspace.experiments["in-the-workspace"].name == "in-the-workspace"
