"""Datastores and references to data."""
import pytest

from azureml.core import Datastore, Experiment, ScriptRunConfig
from azureml.core.runconfig import DataReferenceConfiguration
from azureml.data.data_reference import DataReference
from azureml.data.datapath import DataPath, DataPathComputeBinding
from azureml.exceptions import UserErrorException


@pytest.fixture
def ds(workspace):
    return workspace.get_default_datastore()


def test_upload_and_download(ds, project, tmp_path, capsys):
    project("data/a.txt", "one")
    project("data/sub/b.txt", "two")
    reference = ds.upload(src_dir="data", target_path="moved/here", overwrite=True, show_progress=True)
    assert isinstance(reference, DataReference) and reference.path_on_datastore == "moved/here"
    assert "2 files" in capsys.readouterr().out
    assert ds.download(str(tmp_path / "back"), prefix="moved/here", show_progress=False) == 2
    assert (tmp_path / "back/moved/here/sub/b.txt").read_text() == "two"
    assert capsys.readouterr().out == ""
    assert ds.download(str(tmp_path / "back"), prefix="moved/here") == 0
    assert ds.download(str(tmp_path / "back"), prefix="moved/here", overwrite=True) == 2


def test_overwrite(ds, project, tmp_path):
    project("a.txt", "old")
    ds.upload_files(["a.txt"], target_path="over", overwrite=True)
    project("a.txt", "new")
    ds.upload_files(files=["a.txt"], target_path="over", overwrite=False)
    ds.download(str(tmp_path / "x"), prefix="over")
    assert (tmp_path / "x/over/a.txt").read_text() == "old"
    ds.upload_files(["a.txt"], target_path="over", overwrite=True)
    ds.download(str(tmp_path / "y"), prefix="over")
    assert (tmp_path / "y/over/a.txt").read_text() == "new"


def test_upload_files_keeps_what_is_below_the_root(ds, project, tmp_path):
    files = [str(project("d/one/x.txt", "x")), str(project("d/two/y.txt", "y"))]
    ds.upload_files(files, target_path="kept", overwrite=True)
    ds.upload_files(files, relative_root=".", target_path="rooted", overwrite=True)
    assert ds.download(str(tmp_path / "o"), prefix="kept") == 2
    assert (tmp_path / "o/kept/two/y.txt").is_file()
    ds.download(str(tmp_path / "o"), prefix="rooted")
    assert (tmp_path / "o/rooted/d/one/x.txt").is_file()


@pytest.mark.parametrize("call, word", [
    (lambda ds: ds.upload("nowhere"), "nowhere"), (lambda ds: ds.upload_files(["nofile"]), "nofile"),
    (lambda ds: ds.upload_files("file.txt"), "files"), (lambda ds: ds.upload_files([__file__], relative_root="/etc"), "relative_root"),
    (lambda ds: ds.upload_files([__file__], target_path="../up"), "target_path"), (lambda ds: ds.path("../../etc"), "path"),
    (lambda ds: ds.path("x", data_reference_name="a-b"), "data_reference_name"), (lambda ds: ds.path(3), "path"),
    (lambda ds: DataReference("workspaceblobstore"), "datastore"), (lambda ds: DataReference(ds, mode="teleport"), "mode")])
def test_bad_calls(ds, call, word):
    with pytest.raises(UserErrorException, match=word):
        call(ds)


def test_names_do_not_distinguish_case(workspace):
    assert Datastore(workspace, "WorkspaceBlobStore").name == "workspaceblobstore"
    assert Datastore.get(workspace, datastore_name="workspaceblobstore").is_default
    with pytest.raises(UserErrorException, match="'nostore'.*'workspaceblobstore'"):
        Datastore.get(workspace, "nostore")


def test_what_notebooks_print(ds):
    print(ds.name, ds.datastore_type, ds.account_name, ds.container_name)
    assert ds.datastore_type == "AzureBlob"
    assert all(isinstance(v, str) for v in (ds.account_name, ds.container_name, ds.account_key, ds.protocol))


def test_the_placeholder(ds):
    assert str(ds.as_mount()) == "$AZUREML_DATAREFERENCE_workspaceblobstore"
    assert str(ds.path("x/y", "inputs").as_download()) == "$AZUREML_DATAREFERENCE_inputs"
    generated = ds.path("x")
    assert generated.data_reference_name != ds.path("x").data_reference_name
    assert not generated.data_reference_name[0].isdigit()


def test_modes(ds):
    reference = ds.path("/in//put/", "r")
    assert (reference.path_on_datastore, reference.mode) == ("in/put", "mount")
    down = reference.as_download(path_on_compute="here", overwrite=True)
    assert (down.mode, down.path_on_compute, down.overwrite, down.data_reference_name) == ("download", "here", True, "r")
    assert ds.as_upload().mode == "upload"
    assert reference.path("deeper").path_on_datastore == "in/put/deeper"
    config = down.to_config()
    assert isinstance(config, DataReferenceConfiguration)
    assert (config.datastore_name, config.mode, config.path_on_datastore) == ("workspaceblobstore", "download", "in/put")


def test_data_path(ds):
    path = DataPath(datastore=ds, path_on_datastore="ck")
    assert path.create_data_reference("c").path_on_datastore == "ck" and path.datastore_name == ds.name
    with pytest.raises(UserErrorException, match="datastore"):
        DataPath(path_on_datastore="x").create_data_reference()


def test_how_a_run_gets_a_data_path(ds):
    binding = DataPathComputeBinding(mode="download", path_on_compute="in", overwrite=True)
    reference = DataPath(ds, "ck").create_data_reference("c", datapath_compute_binding=binding)
    assert (reference.mode, reference.path_on_compute, reference.overwrite) == ("download", "in", True)
    whole = DataReference(datastore=ds, data_reference_name="train", path_on_datastore="ck", mode="download")
    assert str(whole) == "$AZUREML_DATAREFERENCE_train" and whole.path_on_datastore == "ck"


def test_what_notebooks_read(workspace, project):
    """Attributes that cells show or compare, and the older way to the default datastore."""
    assert Datastore.get_default(workspace).name == workspace.get_default_datastore().name
    project("proj/train.py", "")
    src = ScriptRunConfig(source_directory="proj", script="train.py")
    assert src.source_directory.endswith("proj") and src.run_config.framework == "Python"
    assert src.script == "train.py" and src.arguments == []
    run = Experiment(workspace, "read").start_logging(snapshot_directory=None)
    assert run.input_datasets == {}
    run.complete()
