"""Datasets of files: made as notebooks make them, registered, and given to runs."""
import functools
import http.server
import os
import threading

import pytest
from object_servers import azurite  # noqa: F401 - a fixture

from azureml.core import Dataset, Datastore, Experiment, RunConfiguration, ScriptRunConfig
from azureml.core._submit import specification
from azureml.core.run import Run
from azureml.data import FileDataset, _paths
from azureml.data.datapath import DataPath
from azureml.data.dataset_consumption_config import DatasetConsumptionConfig, InputPath
from azureml.exceptions import UserErrorException
from azureml.train.estimator import Estimator

SYSTEM = "/usr/bin/python3"
SHOW = """
import os, sys
from azureml.core import Run
run = Run.get_context()
place = sys.argv[1]
assert place == os.environ["mnist"] == run.input_datasets["mnist"], (place, dict(os.environ))
found = sorted(os.path.relpath(os.path.join(d, f), place) for d, _, fs in os.walk(place, followlinks=True) for f in fs)
print("FOUND", " ".join(found) if os.path.isdir(place) else open(place).read())
print("PATHS", " ".join(run.input_datasets["mnist"].to_path()))
assert run.input_datasets["mnist"].download() and run.input_datasets["mnist"].download("copy")
"""


@pytest.fixture
def ds(workspace, project):
    store = workspace.get_default_datastore()
    for name in ("set/train/a.gz", "set/train/b.gz", "set/train/deep/c.gz", "set/test/d.gz", "set/readme.txt", "other/e.gz"):
        project("d/" + name, name)
    store.upload("d", "sets", show_progress=False)
    return store


def lines(run):
    run.wait_for_completion()
    text = "".join(open(path, encoding="utf-8").read() for path in run.get_all_logs())
    assert run.get_status() == "Completed", text
    return {line.split(" ", 1)[0]: line.split(" ", 1)[1] for line in text.splitlines() if line.startswith(("FOUND", "PATHS"))}


def submit(workspace, project, consumption, **more):
    project("proj/train.py", SHOW)
    config = ScriptRunConfig("proj", "train.py", arguments=[consumption], **more)
    config.run_config.environment.python.interpreter_path = SYSTEM
    return Experiment(workspace, "datasets").submit(config)


# Making

def test_paths(ds):
    for path in ((ds, "sets/set/train"), [(ds, "/sets/set/train/")], DataPath(ds, "sets/set/train"), (ds, "sets/set/train/**")):
        dataset = Dataset.File.from_files(path=path)
        assert isinstance(dataset, FileDataset) and dataset.to_path() == ["/a.gz", "/b.gz", "/deep/c.gz"]
    assert Dataset.File.from_files((ds, "sets/set/*.txt")).to_path() == ["/readme.txt"]
    assert Dataset.File.from_files([(ds, "sets/set/**/*.gz"), (ds, "sets/other")]).to_path() == [
        "/other/e.gz", "/set/test/d.gz", "/set/train/a.gz", "/set/train/b.gz", "/set/train/deep/c.gz"]
    assert Dataset.File.from_files((ds, "sets/set/readme.txt")).to_path() == ["/readme.txt"]
    assert Dataset.File.from_files((ds, "sets/set/train/[!a].gz")).to_path() == ["/b.gz"]


@pytest.mark.parametrize("pattern, path, yes", [
    ("a/*.gz", "a/x.gz", True), ("a/*.gz", "a/b/x.gz", False), ("a/**", "a/b/x", True), ("**/x", "x", True), ("**/x", "a/b/x", True),
    ("**/x", "ax", False), ("a?c", "abc", True), ("a?c", "a/c", False), ("[ab]x", "bx", True), ("[!ab]x", "bx", False), ("a.b", "axb", False),
    ("a", "ab", False), ("a", "a/b", True), ("", "a", True), ("a+*", "a+b", True), ("a[", "a[", False)])
def test_patterns(pattern, path, yes):
    assert _paths.matches(pattern, path) is yes if pattern != "a[" else _paths.matches(pattern, path)


def test_files_of_the_web(workspace, project, tmp_path):
    project("web/train images.gz", "images")
    project("web/labels.gz", "labels")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

        def copyfile(self, source, outputfile):
            outputfile.write(source.read()[:-1] if "short" in self.path else source.read())

    project("web/short.gz", "not whole")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(tmp_path / "web")))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = "http://127.0.0.1:%d/" % server.server_address[1]
    web_paths = [url + "train%20images.gz", url + "labels.gz?key=hunter2"]
    dataset = Dataset.File.from_files(path=web_paths)
    assert not asked
    assert "hunter2" not in repr(dataset)
    assert dataset.to_path() == ["/labels.gz", "/train images.gz"] and len(asked) == 2
    assert Dataset.File.from_files(web_paths).to_path() == dataset.to_path() and len(asked) == 2
    assert Dataset.File.from_files(web_paths[0]).to_path() == ["/train images.gz"] and len(asked) == 3
    with pytest.raises(UserErrorException, match="nothing.gz' cannot be fetched: File not found") as caught:
        Dataset.File.from_files(url + "nothing.gz?key=hunter2").to_path()
    assert "hunter2" not in str(caught.value)
    for _ in range(2):
        with pytest.raises(UserErrorException, match="short.gz' cannot be fetched: the connection ended 1 bytes before"):
            Dataset.File.from_files(url + "short.gz").to_path()
    server.shutdown()
    server.server_close()
    with pytest.raises(UserErrorException, match="cannot be fetched"):
        Dataset.File.from_files(url + "other.gz").to_path()


def test_files_of_this_machine(ds, project, tmp_path, monkeypatch):
    local = Dataset.File.from_files("d/set")
    assert local.to_path() == ["/readme.txt", "/test/d.gz", "/train/a.gz", "/train/b.gz", "/train/deep/c.gz"]
    assert Dataset.File.from_files(str(tmp_path / "d/set/train/*.gz")).to_path() == ["/a.gz", "/b.gz"]
    assert Dataset.File.from_files("d/set/readme.txt").to_path() == ["/readme.txt"]
    with pytest.raises(UserErrorException, match="names no file of this machine"):
        Dataset.File.from_files("d/nothing").to_path()


def test_download(ds, tmp_path):
    dataset = Dataset.File.from_files([(ds, "sets/set/train"), (ds, "sets/set/test")])
    places = dataset.download(target_path=str(tmp_path / "out"))
    assert places == [str(tmp_path / "out" / p) for p in ("test/d.gz", "train/a.gz", "train/b.gz", "train/deep/c.gz")]
    assert (tmp_path / "out/train/deep/c.gz").read_text() == "set/train/deep/c.gz"
    with pytest.raises(UserErrorException, match="4 files are in .* overwrite=True"):
        dataset.download(str(tmp_path / "out"))
    assert dataset.download(str(tmp_path / "out"), overwrite=True) == places
    assert os.path.isfile(Dataset.File.from_files((ds, "sets/set/readme.txt")).download()[0])


def test_upload_directory(ds, project):
    dataset = Dataset.File.upload_directory(src_dir="d/set", target=(ds, "updir"), overwrite=True, show_progress=False)
    assert "/test/d.gz" in dataset.to_path()


@pytest.mark.parametrize("call, words", [
    (lambda ds: Dataset.File.from_files((ds, "sets/nothing")), "'sets/nothing' names no file of datastore 'workspaceblobstore'"),
    (lambda ds: Dataset.File.from_files((ds, "../x")), "'../x'"), (lambda ds: Dataset.File.from_files([]), "empty list"),
    (lambda ds: Dataset.File.from_files(3), "path is 3"), (lambda ds: Dataset.File.from_files("wasbs://c@a/x"), "'wasbs://c@a/x' cannot be read"),
    (lambda ds: Dataset.File.from_files((ds, "sets"), partition_format="{x}"), "partition_format"),
    (lambda ds: Dataset.Tabular.from_delimited_files(path=(ds, "x.csv")), "Tabular.from_delimited_files.*read its files with pandas"),
    (lambda ds: Dataset.auto_read_files("x"), "Dataset.auto_read_files"), (lambda ds: Dataset("x"), "Dataset.File.from_files"),
    (lambda ds: Dataset.File.from_files((ds, "sets")).as_hdfs(), "as_hdfs"), (lambda ds: Dataset.File.from_files((ds, "sets")).filter(1), "FileDataset.filter comes with a later release"),
    (lambda ds: Dataset.File.from_files((ds, "sets")).as_named_input("x").as_hdfs(), "as_hdfs"),
    (lambda ds: Dataset.File.from_files((ds, "sets")).take(0), "of 6 files none is left"),
    (lambda ds: Dataset.File.from_files((ds, "sets")).skip(6), "of 6 files none is left"),
    (lambda ds: Dataset.File.from_files((ds, "sets")).take(-1), "count is -1"),
    (lambda ds: Dataset.File.from_files((ds, "sets")).random_split(10), "percentage is 10"),
    (lambda ds: Dataset.File.from_files((ds, "sets/other")).random_split(0.5), "one part would have none"),
    (lambda ds: Dataset.File.from_files((ds, "sets")).as_named_input("a b"), "'a b'"),
    (lambda ds: DatasetConsumptionConfig("x", "y"), "dataset is of type str"),
    (lambda ds: DatasetConsumptionConfig("x", Dataset.File.from_files((ds, "sets")), mode="hdfs"), "mode is 'hdfs'"),
    (lambda ds: Dataset.File.upload_directory("d", "here"), "target is"), (lambda ds: Dataset.get(None), "give a name or an id")])
def test_what_is_refused(ds, call, words):
    with pytest.raises(UserErrorException, match=words):
        call(ds)


def test_parts(ds, tmp_path):
    dataset = Dataset.File.from_files((ds, "sets/set/train"))
    assert dataset.take(2).to_path() == ["/a.gz", "/b.gz"] == dataset.take(2).take(99).to_path()
    assert dataset.skip(2).to_path() == ["/c.gz"]
    assert dataset.take(1).as_mount("here").path_on_compute == "here"
    one, other = dataset.random_split(0.67, seed=3)
    assert len(one.to_path()) == 2 and len(other.to_path()) == 1
    assert sorted(p.rsplit("/")[-1] for p in one.to_path() + other.to_path()) == ["a.gz", "b.gz", "c.gz"]
    assert dataset.random_split(0.67, seed=3)[0].to_path() == one.to_path()
    odd = tmp_path / "odd"
    odd.mkdir()
    for name in ("a[b]*?.txt", "ab.txt"):
        (odd / name).write_text(name)
    ds.upload_files([str(path) for path in odd.iterdir()], target_path="odd", show_progress=False)
    assert Dataset.File.from_files((ds, "odd")).take(1).to_path() == ["/a[b]*?.txt"]


def test_mount(ds, tmp_path):
    dataset = Dataset.File.from_files((ds, "sets/set/train"))
    with dataset.mount() as mounted:
        assert sorted(os.listdir(mounted.mount_point)) == ["a.gz", "b.gz", "deep"]
    assert not os.path.exists(mounted.mount_point)
    chosen = dataset.mount(str(tmp_path / "here"))
    chosen.start()
    assert (tmp_path / "here" / "a.gz").exists()
    chosen.stop()
    assert not (tmp_path / "here").exists()
    (tmp_path / "mine").write_text("x")
    with pytest.raises(UserErrorException, match="is no empty folder"):
        with dataset.mount(str(tmp_path)):
            pass
    assert (tmp_path / "mine").exists()


def test_upload_of_some(ds, project):
    made = Dataset.File.upload_directory("d", (ds, "some"), pattern="set/train/**/*.gz", show_progress=False)
    assert made.to_path() == ["/a.gz", "/b.gz", "/deep/c.gz"]
    assert not ds.download("none", prefix="some/other", show_progress=False)
    with pytest.raises(UserErrorException, match="matches no file"):
        Dataset.File.upload_directory("d", (ds, "some"), pattern="*.png")


def test_two_files_of_one_place(ds, workspace, tmp_path):
    other = Datastore.register_folder(workspace, "second", str(tmp_path / "d/set"))
    with pytest.raises(UserErrorException, match="two files that would be 'a.gz' in one directory"):
        Dataset.File.from_files([(ds, "sets/set/train"), (other, "train")])
    other.unregister()


# Registering

def test_registered(ds, workspace):
    dataset = Dataset.File.from_files((ds, "sets/set"))
    first = dataset.register(workspace=workspace, name="mnist set", description="training and test", create_new_version=True)
    assert (first.name, first.version, first.description) == ("mnist set", 1, "training and test")
    assert dataset.register(workspace, "mnist set", tags={"a": 1}).tags == {"a": "1"}
    other = Dataset.File.from_files((ds, "sets/other"))
    with pytest.raises(UserErrorException, match="create_new_version"):
        other.register(workspace, "mnist set")
    assert other.register(workspace, "mnist set", create_new_version=True).version == 2
    assert Dataset.get_by_name(workspace, name="mnist set").to_path() == ["/e.gz"]
    assert Dataset.get_by_name(workspace, "mnist set", version=1).to_path() == dataset.to_path()
    assert Dataset.get_by_id(workspace, first.id).version == 1 and Dataset.get(workspace, name="mnist set").version == 2
    assert Dataset.get_all(workspace)["mnist set"].version == 2 and "mnist set" in workspace.datasets
    with pytest.raises(UserErrorException, match="no version 9 of dataset 'mnist set'"):
        Dataset.get_by_name(workspace, "mnist set", version=9)
    first.unregister_all_versions()
    for call in (lambda: Dataset.get_by_name(workspace, "mnist set"), lambda: Dataset.get_by_id(workspace, id="x")):
        with pytest.raises(UserErrorException, match="there is no dataset"):
            call()
    assert first.name is None and first.id is None


# Runs

@pytest.mark.parametrize("mode", ["as_mount", "as_download"])
@pytest.mark.parametrize("path, found", [
    ("sets/set/train", "a.gz b.gz deep/c.gz"), ("sets/set/**/*.gz", "test/d.gz train/a.gz train/b.gz train/deep/c.gz"),
    ("sets/set/train/*.gz", "a.gz b.gz"), ("sets/set/readme.txt", "set/readme.txt")])
def test_a_run_sees_a_directory(ds, workspace, project, mode, path, found):
    dataset = Dataset.File.from_files((ds, path))
    run = submit(workspace, project, getattr(dataset.as_named_input("mnist"), mode)())
    said = lines(run)
    if path.endswith("readme.txt"):
        assert said["FOUND"] in (found, "readme.txt")
    else:
        assert said["FOUND"] == found
    assert said["PATHS"].split() == dataset.to_path()
    details = run.get_details()
    assert details["inputDatasets"][0]["consumptionDetails"]["inputName"] == "mnist"
    assert details["runDefinition"]["data"]["mnist"]["mechanism"] == mode[3:].capitalize()


def test_several_datastores(ds, workspace, project, tmp_path):
    project("elsewhere/f.gz", "f")
    other = Datastore.register_folder(workspace, "third", str(tmp_path / "elsewhere"))
    dataset = Dataset.File.from_files([(ds, "sets/set/train"), (other, "")])
    for how in (dataset.as_named_input("mnist").as_mount(), dataset.as_named_input("mnist").as_download("put/here")):
        assert lines(submit(workspace, project, how))["FOUND"] == "a.gz b.gz deep/c.gz f.gz"
    other.unregister()


def test_an_estimator_with_inputs(ds, workspace, project):
    project("proj/train.py", SHOW.replace("sys.argv[1]", "os.environ['mnist']"))
    dataset = Dataset.File.from_files((ds, "sets/set")).register(workspace, "estimators", create_new_version=True)
    est = Estimator("proj", entry_script="train.py", compute_target="local", inputs=[dataset.as_named_input("mnist").as_mount()],
                    script_params={"--other": dataset.as_named_input("other").as_download()})
    est.run_config.environment.python.interpreter_path = SYSTEM
    run = Experiment(workspace, "datasets").submit(est)
    assert lines(run)["FOUND"].startswith("readme.txt test/d.gz")
    assert run.input_datasets["mnist"].name == "estimators" and run.input_datasets["other"].version == dataset.version
    with pytest.raises(KeyError, match="no dataset 'nothing'"):
        run.input_datasets["nothing"]
    dataset.unregister_all_versions()


def test_run_configurations(ds, workspace, project):
    project("proj/train.py", "")
    rc = RunConfiguration()
    dataset = Dataset.File.from_files((ds, "sets/set"))
    rc.data = {"plain": dataset, "named": dataset.as_named_input("named").as_download("here")}
    spec = specification(ScriptRunConfig("proj", "train.py", arguments=["--data", dataset], run_config=rc))
    generated = spec["arguments"][1].strip("${}")
    assert set(spec["data_references"]) == {"plain", "named", generated} == set(spec["expand_variables"])
    assert spec["environment_variables"]["named"] == "$AZUREML_DATAREFERENCE_named"
    assert spec["data_references"]["named"] == {"datastore": ds.name, "path": "sets/set", "mode": "download", "path_on_compute": "here",
                                                "overwrite": False}
    command = specification(ScriptRunConfig("proj", command=["cat", dataset.as_named_input("x").as_mount()]))
    assert command["command"][2] == 'cat "${x}"' and command["expand_variables"] == ["x"]


@pytest.mark.parametrize("change, words", [
    (lambda rc, one, two: rc.data.update(x="y"), "run_config.data: 'x' is of type str"), (lambda rc, one, two: setattr(rc, "data", 3), "data is of type int"),
    (lambda rc, one, two: rc.data.update(x=one, y=two.as_named_input("x")), "two different datasets called 'x'"),
    (lambda rc, one, two: (rc.data.update(x=one), rc.environment_variables.update(x="1")), "environment_variables has 'x'")])
def test_contradictions(ds, project, change, words):
    project("proj/train.py", "")
    rc = RunConfiguration()
    change(rc, Dataset.File.from_files((ds, "sets/set")), Dataset.File.from_files((ds, "sets/other")))
    with pytest.raises(UserErrorException, match=words):
        specification(ScriptRunConfig("proj", "train.py", run_config=rc))


def test_inputs_without_a_name(ds):
    with pytest.raises(UserErrorException, match="as_named_input"):
        Estimator("proj", entry_script="train.py", inputs=[Dataset.File.from_files((ds, "sets"))])


def test_pieces(ds, monkeypatch):
    """A folder whose files all belong to the dataset is one piece."""
    def places(*patterns):
        return [(p.path, p.place, p.is_file) for p in _paths.pieces([(ds, p) for p in patterns], "x")]
    assert places("sets/set") == [("sets/set", "", False)]
    assert places("sets/set/**/*.gz") == [("sets/set/test", "test", False), ("sets/set/train", "train", False)]
    assert places("sets/set/train/*.gz") == [("sets/set/train/a.gz", "a.gz", True), ("sets/set/train/b.gz", "b.gz", True)]
    assert places("sets/set/*/**") == [("sets/set/test", "test", False), ("sets/set/train", "train", False)]
    monkeypatch.setattr(_paths, "PIECES_MAX", 1)
    with pytest.raises(UserErrorException, match="2 separate files and folders, and a run may be given 1"):
        places("sets/set/train/*.gz")


def test_outside_of_a_run(tmp_path, monkeypatch):
    (tmp_path / "a").write_text("x")
    monkeypatch.setenv("AZUREML_DATASET_NAMES", "mine,gone")
    monkeypatch.setenv("mine", str(tmp_path))
    run = Run.get_context()
    assert isinstance(run.input_datasets["mine"], InputPath) and list(run.input_datasets) == ["mine"]
    assert run.input_datasets["mine"].download(str(tmp_path / "to")) == [str(tmp_path / "to/a")]
    with pytest.raises(UserErrorException, match="overwrite=True"):
        run.input_datasets["mine"].download(str(tmp_path / "to"))


def test_a_dataset_of_blobs(azurite, workspace, project):
    store = Datastore.register_azure_blob_container(workspace, "blobs", "sets", azurite["account"], account_key=azurite["key"], protocol="http",
                                                    endpoint=azurite["url"], create_if_not_exists=True, overwrite=True)
    for name in ("train/a.gz", "train/b.gz", "test/c.gz", "readme.txt"):
        project("b/" + name, name)
    store.upload("b", "in", overwrite=True, show_progress=False)
    for pattern, found in (("in/train", "a.gz b.gz"), ("in/**/*.gz", "test/c.gz train/a.gz train/b.gz")):
        dataset = Dataset.File.from_files((store, pattern))
        assert sorted(p[1:] for p in dataset.to_path()) == found.split()
        for how in ("as_download", "as_mount"):
            run = submit(workspace, project, getattr(dataset.as_named_input("mnist"), how)())
            assert lines(run)["FOUND"] == found
    store.unregister()
