"""Interactive runs, children of runs, and metrics that are files; against a real daemon, as notebooks and scripts use them."""
import json
import os
import subprocess
import sys
import time

import pytest
from azureml.core import Experiment, Run, ScriptRunConfig
from azureml.core.script_run import ScriptRun
from azureml.exceptions import UserErrorException
from conftest import wait_until

HEAD = "from azureml.core import Run\nrun = Run.get_context()\n"
MATRIX = {"schema_type": "confusion_matrix", "schema_version": "v1", "data": {"class_labels": ["0", "1"], "matrix": [[3, 4], [0, 1]]}}


@pytest.fixture
def experiment(workspace, project):
    return Experiment(workspace, "interactive")


class Figure:
    """What a figure of matplotlib looks like from outside."""

    drawn = 0

    def savefig(self, file, format):  # noqa: A002
        assert format == "png"
        Figure.drawn += 1
        file.write(b"\x89PNG figure %d" % Figure.drawn)


def test_a_run_without_a_script(experiment, project):
    project("train.py", "pass\n")
    run = experiment.start_logging()
    assert run.get_status() == "Running" and run.type is None and type(run) is Run
    assert repr(run).startswith("Run(Experiment: interactive,\nId: %s,\nType: None" % run.id)
    run.log("alpha", 0.03)
    for mse in (3, 2.5, 1):
        run.log("mse", mse)
    run.log_list("list", range(3))
    run.log_row("row", x=1, y="z")
    run.log_table("table", {"a": [1, 2]})
    run.log("text", "grün", step=3)
    run.tag("stage", 1)
    run.add_properties({"author": "azureml-user"})
    with pytest.raises(UserErrorException, match="'author' is 'azureml-user' already"):
        run.add_properties({"author": "other"})
    project("outputs/model.txt", "weights")
    run.complete()
    assert run.get_status() == "Completed" and run.get_metrics() == {
        "alpha": 0.03, "mse": [3, 2.5, 1], "list": [0, 1, 2], "row": {"x": 1, "y": "z"}, "table": {"a": [1, 2]}, "text": "grün"}
    assert run.get_file_names() == ["outputs/model.txt"] and run.tags == {"stage": "1"}
    assert run.get_details()["properties"]["ContentSnapshotId"] == run.get_snapshot_id()
    assert run.wait_for_completion(show_output=True)["status"] == "Completed"
    run.complete()  # again: no change


def test_as_context_manager(experiment):
    with experiment.start_logging(snapshot_directory=None, display_name="mine") as run:
        run.log("a", 1)
    assert run.get_status() == "Completed" and run.display_name == "mine" and run.get_snapshot_id() is None
    with pytest.raises(ZeroDivisionError):
        with experiment.start_logging(snapshot_directory=None) as run:
            1 / 0
    assert run.get_status() == "Failed"
    assert run.get_details()["error"]["error"] == {"code": "ZeroDivisionError", "message": "ZeroDivisionError: division by zero",
                                                   "details": []}


def test_the_older_way_to_begin(experiment):
    with Run.start_logging(experiment=experiment, snapshot_directory=None) as run:
        run.log("a", 1)
    assert run.get_status() == "Completed" and run.experiment is experiment


def test_fail_and_cancel(experiment):
    run = experiment.start_logging(snapshot_directory=None)
    run.fail(error_details="no data", error_code="Data")
    assert run.get_details()["error"]["error"]["message"] == "no data" and run.status == "Failed"
    run = experiment.start_logging(snapshot_directory=None)
    assert run.cancel() is True and run.get_status() == "Canceled" and run.cancel() is False


def test_outputs_that_were_there_before_are_not_taken(experiment, project):
    old = project("outputs/old.txt", "old")
    os.utime(old, (1, 1))
    run = experiment.start_logging(snapshot_directory=None)
    run._began += 100  # no call sets the time at which a file was changed
    new = project("outputs/deep/new.txt", "new")
    os.utime(new, (run._began + 1, run._began + 1))
    run.complete()
    assert run.get_file_names() == ["outputs/deep/new.txt"]
    run = experiment.start_logging(outputs="outputs", snapshot_directory=None)
    run.complete()
    assert run.get_file_names() == ["outputs/deep/new.txt", "outputs/old.txt"]


def test_children(experiment):
    parent = experiment.start_logging(snapshot_directory=None)
    with parent.child_run(name="first") as child:
        child.log("mse", 1)
        child.parent.log("from the child", 5)
    assert child.parent.id == parent.id and child.display_name == "first" and parent.parent is None
    many = parent.create_children(tag_key="alpha", tag_values=[0.1, 0.2])
    assert [m.tags for m in many] == [{"alpha": "0.1"}, {"alpha": "0.2"}] and len(parent.create_children(count=2)) == 2
    grandchild = child.child_run()
    grandchild.log("mse", 2)
    grandchild.complete()
    assert len([*parent.get_children()]) == 5 and len([*parent.get_children(recursive=True)]) == 6
    assert [c.id for c in parent.get_children(tags={"alpha": 0.2})] == [many[1].id]
    assert [c.id for c in parent.get_children(status="Completed")] == [child.id]
    parent.complete()
    wait_until(lambda: many[0].get_status() == "Completed")
    assert parent.get_metrics() == {"from the child": 5}
    assert sorted(parent.get_metrics(recursive=True)["mse"]) == [1, 2]
    ids = [r.id for r in experiment.get_runs()]
    assert parent.id in ids and child.id not in ids
    assert child.id in [r.id for r in experiment.get_runs(include_children=True)]
    parent.delete()
    with pytest.raises(UserErrorException, match="there is no run"):
        child.get_status()
    for wrong in ({}, {"count": 0}, {"tag_key": "a"}, {"count": 3, "tag_key": "a", "tag_values": [1]}):
        with pytest.raises(UserErrorException, match="create_children"):
            parent.create_children(**wrong)


def test_a_script_with_children(submit):
    run = submit(HEAD + """
for alpha in (0.1, 0.2):
    with run.child_run('alpha %s' % alpha) as child:
        child.log('alpha', alpha)
child = run.create_children(1)[0]
child.log('open', 1)
run.complete()
""")
    assert run.wait_for_completion()["status"] == "Completed"
    children = [*run.get_children()]
    wait_until(lambda: all(c.get_status() == "Completed" for c in children))
    assert sorted(c.get_metrics().get("alpha", 0) for c in children) == [0, 0.1, 0.2]
    assert sum("open" in c.get_metrics() for c in children) == 1


def test_submit_child(submit, project):
    parent = submit("pass\n")
    child = parent.submit_child(ScriptRunConfig("src", script="train.py"), tags={"a": 1})
    assert child.wait_for_completion()["status"] == "Completed" and type(child) is ScriptRun
    assert [c.id for c in parent.get_children()] == [child.id] and child.tags == {"a": "1"}


def test_a_process_that_just_ends(experiment, project):
    code = ("from azureml.core import Workspace, Experiment\n"
            "run = Experiment(Workspace('aa', 'bb', 'cc'), 'interactive').start_logging(snapshot_directory=None)\n"
            "run.log('last', 1)\nprint(run.id)\n")
    out = subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, check=True, timeout=60).stdout.decode()
    run = Run(experiment, out.strip())
    wait_until(lambda: run.get_status() == "Failed")
    assert "without completing it" in run.get_details()["error"]["error"]["message"]
    assert run.get_metrics() == {"last": 1}


def test_logging_to_a_run_from_outside(submit):
    run = submit("pass\n")
    run.log("outside", 1)
    run.flush()
    run.wait_for_completion()
    run.log("later", 2)
    assert run.get_metrics() == {"outside": 1, "later": 2}
    for end in (run.complete, run.fail):
        with pytest.raises(UserErrorException, match="ends when its script does"):
            end()


def test_much_at_once_in_order(experiment):
    run = experiment.start_logging(snapshot_directory=None)
    for i in range(30000):
        run.log("i", i)
    run.log_list("long", range(100000))
    assert run.get_metrics("i")["i"] == [*range(30000)] and run.get_metrics("long")["long"] == [*range(100000)]
    run.complete()


def test_the_service_goes_away_meanwhile(experiment):
    from trainyard.client import Client

    run = experiment.start_logging(snapshot_directory=None)
    run.log("a", 1)
    run.flush()
    os.kill(Client().status()["pid"], 9)
    for i in range(100):
        run.log("a", i)
    run.flush()
    assert len(run.get_metrics()["a"]) == 101
    run.complete()


def test_images_and_documents(experiment, project):
    run = experiment.start_logging(snapshot_directory=None)
    picture = project("picture.jpg", "jpeg")
    run.log_image("photo", path=str(picture))
    run.log_image("plot", plot=Figure())
    run.log_image("plot", plot=Figure(), description="the same again")
    run.log_confusion_matrix("matrix", json.dumps(MATRIX))
    run.log_confusion_matrix("matrix", dict(MATRIX, data={"class_labels": [], "matrix": []}))
    for method in (run.log_accuracy_table, run.log_predictions, run.log_residuals):
        method(method.__name__, {"schema_type": "x", "schema_version": "v1", "data": {}})
    run.complete()
    names, metrics = run.get_file_names(), run.get_metrics()
    photo = [n for n in names if n.startswith("photo_")]
    assert len(photo) == 1 and photo[0].endswith(".jpg")
    assert metrics["photo"] == "aml://artifactId/ExperimentRun/dcid.%s/%s" % (run.id, photo[0])
    assert len([n for n in names if n.startswith("plot_") and n.endswith(".png")]) == 2 and len(metrics["plot"]) == 2
    assert metrics["matrix"][0].endswith("/matrix") and metrics["log_residuals"].endswith("/log_residuals")
    run.download_file("matrix", "m.json")
    with open("m.json") as file:
        assert json.load(file) == MATRIX
    for wrong in (lambda: run.log_image("x"), lambda: run.log_image("x", path="p", plot=Figure()),
                  lambda: run.log_image("x", path="absent.png"), lambda: run.log_image("x", plot=5),
                  lambda: run.log_confusion_matrix("x", "{"), lambda: run.log_residuals("x", {"data": {}})):
        with pytest.raises(UserErrorException):
            wrong()


def test_images_in_a_script(submit):
    run = submit(HEAD + """
open('a.png', 'wb').write(b'png')
run.log_image('picture', 'a.png')
run.log('after', 1)
""")
    assert run.wait_for_completion()["status"] == "Completed"
    assert any(n.startswith("picture_") for n in run.get_file_names()) and run.get_metrics()["after"] == 1


def test_fail_in_a_script(submit):
    run = submit(HEAD + "run.log('a', 1)\nrun.fail('bad data')\nrun.fail('later')\nopen('outputs/o', 'w').write('kept')\n")
    details = run.wait_for_completion(raise_on_error=False)
    assert details["status"] == "Failed" and details["error"]["error"]["message"] == "the script called run.fail(): bad data"
    assert "outputs/o" in run.get_file_names() and run.get_metrics() == {"a": 1}


def test_a_pipe_in_place_of_the_failure(submit):
    """Whoever opened it would wait for ever."""
    run = submit("import os\nos.mkfifo(os.path.join(os.environ['TRAINYARD_SPOOL_DIR'], 'failed'))\n")
    assert run.wait_for_completion()["status"] == "Completed"


def test_logs_in_a_folder(submit, tmp_path):
    run = submit("print('hello')\n")
    run.wait_for_completion()
    places = run.get_all_logs(str(tmp_path / "logs"))
    assert [p for p in places if p.endswith("70_driver_log.txt")] and all(os.path.isfile(p) for p in places)


def test_removing_an_experiment(workspace, project):
    experiment = Experiment(workspace, "to-be-removed")
    run = experiment.start_logging(snapshot_directory=None)
    run.child_run().complete()
    with pytest.raises(UserErrorException, match="have not ended, '%s'" % run.id):
        Experiment.delete(workspace, experiment.id)
    run.complete()
    until = time.monotonic() + 10
    while [*experiment.get_runs()] and time.monotonic() < until:
        Experiment.delete(workspace, experiment.id)
    assert [*experiment.get_runs(include_children=True)] == []
