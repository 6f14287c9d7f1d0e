"""Datastores behind which object stores are: registered as notebooks do it, and files moved to and from real servers."""
import os
import subprocess
import sys
import traceback
import uuid

import pytest
from object_servers import azure, azurite, s3, sas  # noqa: F401 - fixtures

from azureml.core import Datastore, Environment, RunConfiguration, ScriptRunConfig
from azureml.core._submit import specification
from azureml.data.azure_storage_datastore import AzureBlobDatastore, AzureFileDatastore, S3Datastore
from azureml.exceptions import AzureMLException, UserErrorException
from trainyard import errors, objects

SECRET = "c2VjcmV0LXNlY3JldC1zZWNyZXQ="


@pytest.fixture(params=["azure", "s3"])
def store(request, workspace):
    """A datastore of each kind, with a container of its own."""
    name, container = "store_" + request.param, "c-" + uuid.uuid4().hex[:12]
    if request.param == "azure":
        server = request.getfixturevalue("azurite")
        made = Datastore.register_azure_blob_container(
            workspace=workspace, datastore_name=name, container_name=container, account_name=server["account"],
            account_key=server["key"], protocol="http", endpoint=server["url"], create_if_not_exists=True, overwrite=True)
    else:
        server = request.getfixturevalue("s3")
        made = Datastore.register_s3_bucket(workspace, name, container, server.key, server.secret, endpoint=server.url,
                                            create_if_not_exists=True, overwrite=True)
    yield made
    made.unregister()


def everywhere(ds):
    return "%r %s %r %r" % (ds, ds, vars(ds), ds._record)


def test_the_notebooks_cell(azurite, workspace):
    ds = Datastore.register_azure_blob_container(
        workspace, datastore_name="MyStore", container_name="mnist", account_name=azurite["account"], overwrite=True,
        account_key=azurite["key"], protocol="http", endpoint=azurite["url"], create_if_not_exists=True)
    assert isinstance(ds, AzureBlobDatastore) and isinstance(ds, Datastore)
    print(ds.name, ds.datastore_type, ds.account_name, ds.container_name)
    assert (ds.name, ds.datastore_type, ds.account_name, ds.container_name, ds.protocol, ds.endpoint) == (
        "MyStore", "AzureBlob", azurite["account"], "mnist", "http", azurite["url"])
    assert ds.account_key == azurite["key"] and ds.sas_token == "" and azurite["key"] not in everywhere(ds)
    assert isinstance(Datastore(workspace, "mystore"), AzureBlobDatastore) and "MyStore" in workspace.datastores
    again = Datastore.register_azure_blob_container(workspace, "mystore", "mnist", azurite["account"], overwrite=True, protocol="http",
                                                    endpoint=azurite["url"], sas_token="?" + sas(azurite, "mnist"))
    assert again.name == "MyStore" and again.account_key == "" and again.sas_token == sas(azurite, "mnist")
    again.unregister()
    with pytest.raises(UserErrorException, match="no datastore 'MyStore'"):
        Datastore.get(workspace, "MyStore")


def test_files_there_and_back(store, project, tmp_path, capsys):
    for name, text in (("d/a.txt", "one"), ("d/sub/b.txt", "two"), ("d/sub/c d.txt", "three"), ("d/empty", "")):
        project(name, text)
    reference = store.upload(src_dir="d", target_path="moved/here", overwrite=True, show_progress=True)
    assert reference.path_on_datastore == "moved/here" and "Uploaded 4 files\n" in capsys.readouterr().out
    assert store.download(str(tmp_path / "back"), prefix="moved/here", show_progress=False) == 4
    assert (tmp_path / "back/moved/here/sub/c d.txt").read_text() == "three"
    project("d/a.txt", "changed")
    store.upload("d", "moved/here")
    assert "Uploaded 0 files, 4 were there already" in capsys.readouterr().out
    assert store.download(str(tmp_path / "second"), prefix="moved/here/a.txt") == 1
    assert (tmp_path / "second/moved/here/a.txt").read_text() == "one"
    store.upload_files([str(tmp_path / "d/a.txt"), str(tmp_path / "d/sub/b.txt")], target_path="moved/here", overwrite=True)
    assert store.download(str(tmp_path / "back"), "moved/here", overwrite=False) == 0
    assert (tmp_path / "back/moved/here/a.txt").read_text() == "one"
    assert store.download(str(tmp_path / "back"), "moved/here", overwrite=True) == 4
    assert (tmp_path / "back/moved/here/a.txt").read_text() == "changed"
    assert store.download(str(tmp_path / "third"), "moved/he") == 4      # a beginning of paths, as the cloud has it
    assert store.download(str(tmp_path / "third"), "nowhere") == 0


def test_what_cannot_be_sent(store, project, tmp_path):
    project("d/good.txt", "x")
    project("d/bad\nname", "x")
    with pytest.raises(AzureMLException, match="bad.*name"):
        store.upload("d", target_path="bad")
    (tmp_path / "place").write_text("a file where a folder has to be")
    store.upload_files([str(tmp_path / "d/good.txt")], target_path="good")
    with pytest.raises(AzureMLException, match="place"):
        store.download(str(tmp_path / "place"), "good")


def test_references_and_the_default(store, workspace):
    first = workspace.get_default_datastore()
    workspace.set_default_datastore(store.name)
    try:
        assert workspace.get_default_datastore().name == store.name and Datastore.get_default(workspace).is_default
        with pytest.raises(UserErrorException, match="is the default one"):
            store.unregister()
        assert str(store.path("x", "in").as_download()) == "$AZUREML_DATAREFERENCE_in"
    finally:
        first.set_as_default()
    assert workspace.get_default_datastore().name == first.name


def test_kinds(s3, workspace, tmp_path):
    bucket = Datastore.register_s3_bucket(workspace, "bucket", "kinds", s3.key, s3.secret, region="eu-1", endpoint=s3.url, prefix="deep/er",
                                          create_if_not_exists=True)
    assert isinstance(bucket, S3Datastore) and (bucket.datastore_type, bucket.bucket_name, bucket.region) == ("S3", "kinds", "eu-1")
    assert (bucket.account_name, bucket.protocol, bucket.endpoint) == ("", "http", s3.url) and s3.secret not in everywhere(bucket)
    bucket.unregister()
    folder = Datastore.register_folder(workspace, "folder", str(tmp_path / "new"), create_if_not_exists=True)
    assert (folder.datastore_type, folder.container_name, folder.protocol) == ("AzureBlob", str(tmp_path / "new"), "file")
    folder.unregister()
    share = Datastore.register_azure_file_share(workspace, "share", "files", "account1", account_key=SECRET, root=str(tmp_path / "new"))
    assert (share.datastore_type, share.account_name, share.container_name) == ("AzureFile", "account1", "files")
    assert isinstance(share, AzureFileDatastore) and SECRET not in everywhere(share)
    share.upload_files([__file__], show_progress=False)
    assert os.listdir(str(tmp_path / "new")) == [os.path.basename(__file__)]
    share.unregister()
    assert isinstance(AzureFileDatastore.__new__(AzureFileDatastore), Datastore)


@pytest.mark.parametrize("call, words", [
    (lambda ws: Datastore.register_azure_file_share(ws, "x", "files", "account1", account_key=SECRET), "mounted"),
    (lambda ws: Datastore.register_azure_blob_container(ws, "x-y", "container", "account1", account_key=SECRET), "x-y"),
    (lambda ws: Datastore.register_azure_blob_container(ws, "", "container", "account1"), "datastore_name is ''; it has 1 to 255"),
    (lambda ws: Datastore.register_azure_blob_container(ws, "../x", "container", "account1"), "datastore_name is '../x'"),
    (lambda ws: Datastore.register_azure_blob_container(ws, "x\n", "container", "account1"), r"datastore_name is 'x\\n'"),
    (lambda ws: Datastore.register_azure_blob_container(ws, "x", "Container!", "account1", account_key=SECRET), "Container!"),
    (lambda ws: Datastore.register_azure_blob_container(ws, "x", 3, "account1", account_key=SECRET), "container_name is of type int"),
    (lambda ws: Datastore.register_azure_blob_container(ws, 3, "container", "account1"), "datastore_name is of type int"),
    (lambda ws: Datastore.register_azure_blob_container(ws, "x", "container", "account1", account_key=SECRET, sas_token="sig=" + SECRET), "give one"),
    (lambda ws: Datastore.register_folder(ws, "x", "/nowhere/at/all"), "/nowhere/at/all"),
    (lambda ws: Datastore.get_default(ws).unregister(), "workspaceblobstore"),
    (lambda ws: ws.set_default_datastore("nostore"), "'nostore'")])
def test_what_is_refused(call, words, workspace):
    with pytest.raises(UserErrorException, match=words) as caught:
        call(workspace)
    assert SECRET not in "".join(traceback.format_exception(None, caught.value, None)) + repr(caught.value)


def test_a_wrong_key_and_a_missing_container(azurite, workspace):
    common = dict(account_name=azurite["account"], protocol="http", endpoint=azurite["url"])
    with pytest.raises(UserErrorException, match="'wrong' cannot be used") as caught:
        Datastore.register_azure_blob_container(workspace, "wrong", "container1", account_key=SECRET, **common)
    assert SECRET not in str(caught.value)
    with pytest.raises(UserErrorException, match="nocontainer"):
        Datastore.register_azure_blob_container(workspace, "wrong", "nocontainer", account_key=azurite["key"], **common)
    unseen = Datastore.register_azure_blob_container(workspace, "wrong", "nocontainer", account_key=SECRET, skip_validation=True, **common)
    with pytest.raises(UserErrorException) as caught:
        unseen.download("x")
    assert SECRET not in str(caught.value)
    unseen.unregister()


def test_what_only_the_cloud_has_warns(azurite, workspace):
    with pytest.warns(UserWarning, match="blob_cache_timeout means something only"):
        Datastore.register_azure_blob_container(workspace, "cached", "container2", azurite["account"], account_key=azurite["key"],
                                                protocol="http", endpoint=azurite["url"], create_if_not_exists=True,
                                                blob_cache_timeout=10).unregister()


def test_a_run_definition_has_no_keys(store, project):
    project("proj/train.py", "")
    rc = RunConfiguration()
    rc.environment = Environment("e")
    rc.source_directory_data_store = store
    config = ScriptRunConfig("proj", arguments=["--data", store.path("in", "x").as_download()], run_config=rc)
    spec = specification(config)
    secrets = [v for v in (store._secret("account_key"), store._secret("secret_access_key")) if v]
    assert secrets and not any(s in str(spec) or s in repr(config) for s in secrets)
    assert spec["data_references"]["x"]["datastore"] == store.name


def test_a_helper_that_is_killed(store, project, monkeypatch, tmp_path):
    fake = project("agent", "#!/bin/sh\nread -r line\necho '{\"progress\": {\"bytes\": 1, \"total\": 2, \"files\": 0, \"files_total\": 1}}'\nkill -9 $$\n")
    fake.chmod(0o755)
    monkeypatch.setattr(objects, "agent", lambda: str(fake))
    seen = []
    with pytest.raises(errors.TrainyardError, match="ended without an answer, with code -9"):
        objects.put({}, [{"local": "/x", "path": "x"}], progress=lambda *n: seen.append(n))
    assert seen == [(1, 2)]


def test_a_progress_bar_on_a_terminal(store, project, tmp_path):
    project("d/big", "x" * 3_000_000)
    program = tmp_path / "upload.py"
    program.write_text("from azureml.core import Datastore, Workspace\n"
                       "Datastore(Workspace.from_config(), '%s').upload('d', 'bar', overwrite=True)\n" % store.name)
    text = subprocess.run(["script", "-qec", "%s %s" % (sys.executable, program), "/dev/null"], stdout=subprocess.PIPE, text=True,
                          timeout=60, check=True, stdin=subprocess.DEVNULL).stdout
    assert "Uploading to %s [" % store.name in text and "/2 MB" in text and "Uploaded 1 files" in text
