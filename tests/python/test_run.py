"""Runs against a real daemon: logging, files, tags, waiting, cancelling."""
import copy
import os
import re
import subprocess
import time
import urllib.request

import compat
import pytest
from conftest import BUILD, wait_until

from azureml._restclient.constants import RunStatus
from azureml.core import Dataset, Environment, Experiment, Run, RunConfiguration, ScriptRunConfig, _git, get_run
from azureml.core.environment import DEFAULT_GPU_IMAGE
from azureml.core.run import RUNNING_STATES, _OfflineRun
from azureml.core.runconfig import PyTorchConfiguration
from azureml.core.script_run import ScriptRun
from azureml.exceptions import ActivityFailedException, RunEnvironmentException, UserErrorException
from azureml.widgets import RunDetails

HEAD = "from azureml.core import Run\nrun = Run.get_context()\n"


def test_the_shapes_of_get_metrics(submit):
    run = submit(HEAD + """
run.log('once', 0.5); run.log('int', 3); run.log('text', 'grün')
for i in range(3): run.log('many', i / 2)
run.log('nan', float('nan')); run.log('nan', float('inf'))
run.log_list('list', [1, 2, 3]); run.log_list('generator', (x * x for x in range(3)))
run.log_row('row', x=1, y=2.5)
for a in range(2): run.log_row(name='rows', angle=a, cos=a * 10)
run.log_table('table', {'x': [1, 2], 'y': [3.5, 4.5]})
run.log(name='named', value=7, description='d', step=3)
""")
    run.wait_for_completion()
    metrics = run.get_metrics()
    assert metrics.pop("nan")[1] == float("inf")
    assert metrics == {
        "once": 0.5, "int": 3, "text": "grün", "many": [0.0, 0.5, 1.0], "list": [1, 2, 3], "generator": [0, 1, 4],
        "row": {"x": 1, "y": 2.5}, "rows": {"angle": [0, 1], "cos": [0, 10]}, "table": {"x": [1, 2], "y": [3.5, 4.5]}, "named": 7}
    assert run.get_metrics("once") == {"once": 0.5} and run.get_metrics(name="absent") == {}


def test_numpy_values(submit):
    run = submit(HEAD + """
import numpy as np
run.log('f64', np.float64(1.5)); run.log('f32', np.float32(0.5)); run.log('i', np.int64(7)); run.log('b', np.bool_(True))
run.log('zero_d', np.array(2.5)); run.log_list('a', np.arange(3)); run.log_list('f', np.array([.5, np.nan]))
run.log_row('r', x=np.float32(1.5)); run.log_table('t', {'x': np.arange(2), 'y': [np.float64(.5), 1]})
""")
    run.wait_for_completion()
    metrics = run.get_metrics()
    assert metrics["f"][0] == 0.5 and metrics.pop("f")[1] != 0.5
    assert metrics == {"f64": 1.5, "f32": 0.5, "i": 7, "b": 1, "zero_d": 2.5, "a": [0, 1, 2], "r": {"x": 1.5},
                       "t": {"x": [0, 1], "y": [0.5, 1]}}


def test_what_the_live_run_knows(submit, tmp_path):
    run = submit(HEAD + """
import os, sys
from azureml.core.run import _OfflineRun
assert not isinstance(run, _OfflineRun) and run is Run.get_context() and Run.get_submitted_run() is run
assert hasattr(run, 'experiment') and not run.id.startswith('OfflineRun')
assert Run.get_context(allow_offline=False) is run
run.log('x', 1)
assert run.get_metrics() == {'x': 1}, run.get_metrics()
run.tag('stage', 'warm-up'); run.tag('bare'); run.tag('number', 1)
assert run.get_tags() == {'stage': 'warm-up', 'bare': None, 'number': '1', 'given': 'yes'}, run.get_tags()
run.add_properties({'author': 'me'})
try:
    run.add_properties({'author': 'you'})
except Exception as error:
    print('refused:', error)
assert run.get_status() == 'Running' and run.number >= 1 and run.parent is None
run.upload_file('outputs/extra.txt', __file__)
run.complete()
print(run.experiment.name, run.id, os.environ['AZUREML_RUN_ID'])
""")
    run.set_tags({"given": "yes"})
    run.wait_for_completion()
    log = run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"]
    assert "refused:" in log and "tests %s %s" % (run.id, run.id) in log
    assert run.tags == {"stage": "warm-up", "bare": None, "number": "1", "given": "yes"}
    assert run.get_properties()["author"] == "me"
    run.remove_tags(["bare"])
    assert "bare" not in run.get_tags()
    run.download_file("outputs/extra.txt", str(tmp_path / "e.txt"))
    assert "Run.get_context()" in (tmp_path / "e.txt").read_text()


def test_details(submit, workspace):
    run = submit("print('x')", arguments=["--lr", 0.5, "-v"], experiment="details")
    assert isinstance(run, ScriptRun) and run.status in RUNNING_STATES + ["Completed"]
    details = run.wait_for_completion()
    assert details["runId"] == run.id and details["status"] == RunStatus.COMPLETED and details["target"] == "local"
    assert details["startTimeUtc"] < details["endTimeUtc"]
    assert details["properties"]["ContentSnapshotId"] == run.get_snapshot_id()
    assert details["properties"]["_azureml.ComputeTargetType"] == "local"
    definition = details["runDefinition"]
    assert definition["arguments"] == definition["Arguments"] == ["--lr", "0.5", "-v"]
    assert definition.get("SCRIPT") == "train.py" and "nodecount" in definition and definition["Environment"]["Python"]
    assert "azureml-logs/70_driver_log.txt" in details["logFiles"]
    assert (details["inputDatasets"], details["outputDatasets"]) == ([], [])
    assert repr(run) == "Run(Experiment: details,\nId: %s,\nType: azureml.scriptrun,\nStatus: Completed)" % run.id
    assert run.id in run._repr_html_() and re.fullmatch(r"details_\d{10}_[0-9a-f]{8}", run.id)
    assert run.type == "azureml.scriptrun" and run.number == 1
    again = Run(Experiment(workspace, "details"), run.id)
    assert again == run and again.status == "Completed"
    assert Run.get(workspace, run.id).experiment.name == "details" and get_run(None, run.id) == run
    RunDetails(run).show()


def test_the_commit_that_a_run_was_submitted_from(submit, project, monkeypatch):
    for name in ("GIT_DIR", "GIT_WORK_TREE"):
        monkeypatch.delenv(name, raising=False)

    def git(*words):
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@example", *words], check=True, stdout=subprocess.DEVNULL)

    def kept(run):
        found = run.wait_for_completion()["properties"]
        return {key: value for key, value in found.items() if ".git." in key}

    assert kept(submit("pass\n")) == {}
    git("init", "-q", "-b", "work", ".")
    assert kept(submit("pass\n")) == {"azureml.git.branch": "work", "mlflow.source.git.branch": "work", "azureml.git.dirty": "True"}
    git("remote", "add", "origin", "https://me:secret@git.example/x.git")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], text=True).strip()
    whole = {"azureml.git.commit": commit, "mlflow.source.git.commit": commit, "azureml.git.branch": "work",
             "mlflow.source.git.branch": "work", "azureml.git.repository_uri": "https://git.example/x.git",
             "mlflow.source.git.repoURL": "https://git.example/x.git"}
    assert kept(submit("pass\n")) == dict(whole, **{"azureml.git.dirty": "False"})
    assert kept(submit("changed = 1\n")) == dict(whole, **{"azureml.git.dirty": "True"})
    git("checkout", "-q", "--detach")
    assert "azureml.git.branch" not in kept(submit("pass\n"))
    monkeypatch.setattr("azureml.core._git.subprocess.run", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError("git")))
    assert _git.properties("src") == {}  # no git on this machine


def test_a_property_of_details_is_the_runs_or_a_constant(submit, project, workspace):
    """Two runs with nothing in common: what is the same in both is told of in docs/compat.md."""
    def leaves(value, path=""):
        if isinstance(value, dict) and value:
            return {k: v for key, one in value.items() for k, v in leaves(one, "%s.%s" % (path, key) if path else key).items()}
        return {path: repr(value)}

    plain = submit("pass\n").wait_for_completion()
    env, rc = Environment("other"), RunConfiguration()
    env.version, env.inferencing_stack_version, env.python.conda_dependencies = "3", "latest", None
    env.environment_variables, env.python.base_conda_environment = {"A": "b"}, "base"
    docker = env.docker
    docker.base_image, docker.base_dockerfile, docker.gpu_support, docker.shared_volumes = DEFAULT_GPU_IMAGE, "FROM x", True, False
    docker.shm_size, docker.arguments, docker.base_image_registry.address = "8g", ["--x"], "a"
    docker.base_image_registry.username, docker.platform.os, docker.platform.architecture = "b", "Windows", "arm64"
    docker.base_image_registry.password = "secret"
    for section in (env.spark, env.databricks):
        for name in section._saved:
            setattr(section, name, ["x"])
    env.spark.precache_packages, env.python.user_managed_dependencies = False, True
    env.python.conda_dependencies_file = "c.yml"
    rc.environment, rc.auto_prepare_environment, rc.max_run_duration_seconds, rc.priority = env, False, 60, 5
    rc.environment_variables, rc.docker.shm_size, rc.hdi.yarn_deploy_mode, rc.spark.configuration = {"C": "d"}, "4g", "client", {"e": "f"}
    rc.node_count, rc.communicator, rc.framework, rc.pytorch = 2, "Gloo", "PyTorch", PyTorchConfiguration("Gloo", 4, 2)
    rc.history.output_collection = rc.history.snapshot_project = False
    rc.history.directories_to_watch = ["outputs"]
    for name in rc.amlcompute._saved:
        setattr(rc.amlcompute, name, 7 if name.endswith("count") else True if name.startswith("retain") else "x")
    rc.data_references = {"i": workspace.get_default_datastore().path("in", "i").as_upload(path_on_compute="o", overwrite=True)}
    project("src/c.yml", "dependencies: []\n")
    workspace.get_default_datastore().upload("src", "dataset", show_progress=False)
    rc.data = {"d": Dataset.File.from_files((workspace.get_default_datastore(), "dataset"))}
    other = submit("import sys\nsys.exit(1)\n", run_config=rc, arguments=["-v"]).wait_for_completion(raise_on_error=False)
    same = {k for k, v in leaves(plain).items() if leaves(other).get(k) == v}
    told = set(re.findall(r"\| `([^`]+)` \| `", "\n".join(compat.constants())))
    known = {"submittedBy", "target", "runDefinition.target", "runDefinition.script", "runDefinition.command",
             "properties._azureml.ComputeTargetType", "runDefinition.environment.python.interpreterPath"}  # the run's, and alike in these two
    known |= {"runDefinition.docker.useDocker", "runDefinition.docker.arguments", "runDefinition.environment.docker.enabled"}  # of an image
    secret = {"runDefinition.environment.docker.baseImageRegistry.password"}
    assert "secret" not in repr(other)
    assert {k for k in same - known - secret if not any((k + ".").startswith(t + ".") for t in told)} == set()
    here = {t for t in told if t.startswith(("runDefinition.", "properties."))}
    assert {t for t in here if not any((k + ".").startswith(t + ".") for k in same)} == set()


def test_outputs_and_logs_are_kept(submit, tmp_path, monkeypatch):
    run = submit("""
import os
assert os.path.isdir('outputs') and os.path.isdir('logs')
os.makedirs('outputs/deep')
open('outputs/deep/m.bin', 'wb').write(bytes(range(256)) * 5000)
open('outputs/a.txt', 'w').write('a'); open('logs/l.txt', 'w').write('l'); open('elsewhere.txt', 'w').write('no')
""")
    run.wait_for_completion()
    names = run.get_file_names()
    assert {"outputs/deep/m.bin", "outputs/a.txt", "logs/l.txt", "azureml-logs/70_driver_log.txt"} <= set(names)
    assert not any("elsewhere" in n for n in names)
    run.download_file(name="outputs/deep/m.bin", output_file_path=str(tmp_path / "new" / "m.bin"))
    assert (tmp_path / "new" / "m.bin").read_bytes() == bytes(range(256)) * 5000
    run.download_file("outputs/a.txt", str(tmp_path))
    assert (tmp_path / "a.txt").read_text() == "a"
    monkeypatch.chdir(tmp_path / "new")
    run.download_file("outputs/a.txt")
    assert (tmp_path / "new" / "a.txt").is_file()
    run.download_files(prefix="outputs", output_directory=str(tmp_path / "all"))
    assert (tmp_path / "all/outputs/deep/m.bin").is_file()
    run.download_files(prefix="outputs/", output_directory=str(tmp_path / "cut"), append_prefix=False)
    assert (tmp_path / "cut/deep/m.bin").is_file()
    with pytest.raises(UserErrorException, match="outputs/absent"):
        run.download_file("outputs/absent", str(tmp_path / "absent"))
    assert not list(tmp_path.glob("absent*"))
    run.upload_file("outputs/late.txt", str(tmp_path / "a.txt"))
    run.upload_file("outputs/late.txt", str(tmp_path / "a.txt"))  # the same content is no conflict
    with pytest.raises(UserErrorException, match="outputs/late.txt"):
        run.upload_file("outputs/late.txt", str(tmp_path / "all/outputs/deep/m.bin"))
    with pytest.raises(UserErrorException, match="no-such-file"):
        run.upload_file("outputs/x", "no-such-file")
    for bad in ("../up", "/abs", "a/../b"):
        with pytest.raises(UserErrorException):
            run.upload_file(bad, str(tmp_path / "a.txt"))


def test_the_script_may_write_to_its_own_files(submit):
    text = "open(__file__, 'a').write('# changed\\n')\nprint(open(__file__).read().count('# changed'))\n"
    for _ in range(2):
        run = submit(text)
        run.wait_for_completion()
        assert run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"].strip() == "3"


def test_streamed_output(submit, capsys):
    run = submit("import time\nfor i in range(3):\n    print('line', i, flush=True)\n    time.sleep(.05)\nprint('grün ✓')\n")
    run.wait_for_completion(show_output=True)
    out = capsys.readouterr().out
    order = ["RunId: %s\nWeb View: " % run.id, "Streaming azureml-logs/70_driver_log.txt\n====", "line 0\nline 1\nline 2\ngrün ✓\n",
             "Execution Summary\n=================\n"]
    assert [out.index(text) for text in order] == sorted(out.index(text) for text in order)
    assert out.count("line 1") == 1


def test_output_comes_while_the_run_goes_on(submit, project):
    """The first line is there before the script, which waits for a file that only the reader makes, can end."""
    from azureml.core._service import client

    go = os.path.join(os.getcwd(), "go")
    run = submit("import os, time\nprint('first', flush=True)\nend = time.time() + 30\n"
                 "while not os.path.exists(%r) and time.time() < end: time.sleep(.02)\nprint('last')\n" % go)
    text = ""
    with client().follow(run.id) as events:
        for event in events:
            if event.kind == "log":
                text += event.text
                if "first" in text:
                    open(go, "w").close()
    assert text.endswith("first\nlast\n")


def test_a_script_that_raises(submit):
    run = submit("import sys\nprint('so far so good')\nraise ValueError('the reason')\n")
    with pytest.raises(ActivityFailedException) as caught:
        run.wait_for_completion(show_output=False)
    text = str(caught.value)
    assert run.id in text and "exit" in text and "1" in text and "ValueError: the reason" in text
    assert caught.value.error_details["status"] == "Failed"
    details = run.wait_for_completion(raise_on_error=False)
    assert "1" in details["error"]["error"]["message"] and run.get_status() == "Failed"


def test_a_script_that_is_killed(submit):
    run = submit("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    with pytest.raises(ActivityFailedException, match="(?i)signal 9|SIGKILL|killed"):
        run.wait_for_completion()


def test_cancel(submit):
    run = submit("import time\nprint('up', flush=True)\ntime.sleep(120)\n")
    wait_until(lambda: run.get_status() == "Running")
    assert run.cancel() is True
    run.wait_for_completion()
    assert run.get_status() == "Canceled"
    assert run.cancel() is False


def test_the_time_limit(submit):
    run = submit("import time\ntime.sleep(120)\n", max_run_duration_seconds=1)
    began = time.monotonic()
    run.wait_for_completion(raise_on_error=False)
    assert time.monotonic() - began < 30
    assert run.get_status() in ("Canceled", "Failed") and "1 s" in str(run.get_details()["error"])


def test_environment_and_expansion(submit, workspace, tmp_path):
    ds = workspace.get_default_datastore()
    (tmp_path / "in.txt").write_text("payload")
    ds.upload_files([str(tmp_path / "in.txt")], target_path="env", overwrite=True)
    config = {"arguments": ["--data", ds.path("env", "input").as_download(), "--name", "$WHO-$RANK", "--plain", "$NOT_SET"]}
    env = Environment("e")
    env.environment_variables = {"WHO": "me"}
    env.python.interpreter_path = "/usr/bin/python3"
    run = submit("import os, sys\nprint(sys.argv[1:])\nprint(open(os.path.join(sys.argv[2], 'in.txt')).read())\n"
                 "print('HIDDEN' in os.environ)\n", environment=env, **config)
    os.environ["HIDDEN"] = "1"
    run.wait_for_completion()
    del os.environ["HIDDEN"]
    log = run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"]
    assert "'--name', 'me-0', '--plain', '$NOT_SET'" in log and "payload" in log and "False" in log


def test_upload_references(submit, workspace, tmp_path):
    ds = workspace.get_default_datastore()
    run = submit("import os, sys\nos.makedirs(sys.argv[1], exist_ok=True)\nopen(os.path.join(sys.argv[1], 'r.txt'), 'w').write('up')\n",
                 arguments=[ds.path("results", "result").as_upload()])
    run.wait_for_completion()
    assert ds.download(str(tmp_path / "d"), prefix="results") == 1
    assert (tmp_path / "d/results/r.txt").read_text() == "up"


def test_use_gpu_without_one_warns_once_and_runs(project, workspace):
    from azureml.train.estimator import Estimator

    if workspace.compute_targets["local"]._record["gpus"]:
        pytest.skip("this box has a GPU")
    project("src/train.py", "print('on the CPU')")
    with pytest.warns(UserWarning, match="GPU") as caught:
        run = Experiment(workspace, "tests").submit(Estimator("src", entry_script="train.py", use_gpu=True))
    assert sum("GPU" in str(w.message) for w in caught) == 1 and caught[0].filename == __file__
    details = run.wait_for_completion()
    assert any("GPU" in w["message"] for w in details["warnings"])
    assert "GPU" in run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"].splitlines()[0]


def test_require_gpu_refuses(project, workspace):
    from azureml.core.compute import AmlCompute, ComputeTarget
    from azureml.train.estimator import Estimator

    if workspace.compute_targets["local"]._record["gpus"]:
        pytest.skip("this box has a GPU")
    target = ComputeTarget.create(workspace, "gpubox", AmlCompute.provisioning_configuration("STANDARD_NC6", require_gpu=True))
    project("src/train.py", "")
    with pytest.raises(UserErrorException, match="gpubox.*GPU"):
        Experiment(workspace, "tests").submit(Estimator("src", entry_script="train.py", compute_target=target, use_gpu=True))


def test_commands(project, workspace):
    project("src/x.txt", "content")
    run = Experiment(workspace, "tests").submit(ScriptRunConfig("src", command=["cat", "x.txt", "&&", "echo", "$WORLD_SIZE ranks"]))
    run.wait_for_completion()
    assert run.get_details_with_logs()["logFiles"]["azureml-logs/70_driver_log.txt"].endswith("content1 ranks\n")


def test_the_page_of_a_run(submit, workspace):
    run = submit("print('shown')")
    run.wait_for_completion()
    url = run.get_portal_url()
    assert url.startswith("http://127.0.0.1:") and "/runs/%s?token=" % run.id in url
    with urllib.request.build_opener(urllib.request.HTTPCookieProcessor()).open(url, timeout=30) as page:
        text = page.read().decode()
        assert "token" not in page.url
    assert "Completed" in text and "shown" in text
    assert run.experiment.get_portal_url().startswith("http://127.0.0.1:")
    assert run.experiment.workspace.name == workspace.name


def test_experiments_and_their_runs(submit, workspace):
    first = submit("", experiment="listed")
    second = submit("", experiment="listed")
    for run in (first, second):
        run.wait_for_completion()
    first.tag("worth another look")
    first.set_tags({"quality": "good"})
    first.add_properties({"author": "azureml-user"})
    experiment = Experiment(workspace, "listed")
    assert [r.id for r in experiment.get_runs()] == [second.id, first.id]
    assert [r.id for r in experiment.get_runs(tags="worth another look")] == [first.id]
    assert [r.id for r in experiment.get_runs(tags={"quality": "good"})] == [first.id]
    assert [r.id for r in experiment.get_runs(properties={"author": "azureml-user"}, tags="worth another look")] == [first.id]
    assert [r.id for r in experiment.get_runs(properties="author")] == [first.id]
    assert [r.id for r in experiment.get_runs(type="azureml.scriptrun")] == [second.id, first.id]
    assert [*experiment.get_runs(type="hyperdrive")] == [*experiment.get_runs(properties={"author": "other"})] == []
    assert [r.id for r in Run.list(experiment, tags={"quality": "bad"})] == []
    assert experiment.name in workspace.experiments and "listed" in [e.name for e in Experiment.list(workspace)]


def test_tags_at_submission_and_show_output(project, workspace, capsys):
    project("src/train.py", "print('shown')")
    run = Experiment(workspace, "tests").submit(ScriptRunConfig("src", script="train.py"), tags={"a": 1, "b": None}, show_output=True)
    assert "shown" in capsys.readouterr().out and run.status == "Completed"
    assert run.get_tags() == {"a": "1", "b": None}


def test_forked_children_log_to_the_same_run(submit):
    run = submit(HEAD + """
import os
run.log('who', 0)
for i in range(1, 4):
    pid = os.fork()
    if pid == 0:
        run.log('who', i)
        os._exit(0)
    os.waitpid(pid, 0)
run.log('who', 4)
""")
    run.wait_for_completion()
    assert run.get_metrics()["who"] == [0, 1, 2, 3, 4]


def test_logging_goes_on_while_the_daemon_is_away(submit):
    """The daemon is stopped while the script logs and tags; all of it is there when it is back."""
    go = os.path.join(os.getcwd(), "go")
    run = submit(HEAD + """
import os, time
run.log('n', 0); print('up', flush=True)
end = time.time() + 30
while not os.path.exists(%r) and time.time() < end: time.sleep(.02)
for i in range(1, 1000): run.log('n', i)
run.tag('away', 'yes')
print('done', flush=True)
""" % go)
    wait_until(lambda: run.get_status() == "Running")
    subprocess.run([os.path.join(BUILD, "trainyard"), "down"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    open(go, "w").close()
    run.wait_for_completion()
    assert run.get_metrics()["n"] == list(range(1000)) and run.get_tags() == {"away": "yes"}


def test_waiting_survives_the_death_of_the_daemon(submit, capsys):
    from azureml.core._service import client

    run = submit("import time\nfor i in range(60):\n    print('line', i, flush=True)\n    time.sleep(.05)\n")
    wait_until(lambda: run.get_status() == "Running")
    os.kill(client().status()["pid"], 9)
    run.wait_for_completion(show_output=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("line ")]
    assert lines == ["line %d" % i for i in range(60)]


# Outside of a run

def test_the_offline_run(capsys):
    run = Run.get_context()
    assert type(run) == _OfflineRun and run.id.startswith("OfflineRun_") and not hasattr(run, "experiment")
    run.log("loss", 0.5)
    run.log("loss", 0.25)
    run.log_list("l", (i for i in range(2)))
    run.log_row("r", x=1)
    run.log_row("r", x=2)
    run.log_table("t", {"x": [1]})
    run.tag("k", 1)
    run.upload_file("outputs/x", "x")
    run.flush()
    run.complete()
    assert "Attempted to log scalar metric loss:\n0.5\n" in capsys.readouterr().out
    assert run.get_metrics() == {"loss": [0.5, 0.25], "l": [0, 1], "r": {"x": [1, 2]}, "t": {"x": [1]}}
    assert run.get_tags() == {"k": "1"} and run.get_status() == "Completed"


def test_children_of_an_offline_run_and_what_it_does_not_have():
    run = Run.get_context()
    with run.child_run("first") as child:
        child.log("mse", 1)
        child.parent.log("best", 1)
    many = run.create_children(tag_key="alpha", tag_values=[0.1, 0.2])
    assert [c.get_tags() for c in many] == [{"alpha": "0.1"}, {"alpha": "0.2"}] and len(run.create_children(count=2)) == 2
    grandchild = many[0].child_run()
    assert len([*run.get_children()]) == 5 and grandchild in [*run.get_children(recursive=True)]
    assert child.name == "first" and child.status == "Completed" and run.get_metrics() == {"best": 1} and child.get_metrics() == {"mse": 1}
    run.set_tags({"a": 1, "b": 2})
    run.remove_tags(["a", "absent"])
    run.upload_files(["outputs/x", "outputs/y"], ["x", "y"])
    assert run.get_tags() == {"b": "2"} and run.get_file_names() == ["outputs/x", "outputs/y"]
    for name in ("get_portal_url", "download_file", "get_secret", "wait_for_completion", "take_snapshot", "delete"):
        with pytest.raises(RunEnvironmentException, match="run.%s needs a run of the service" % name):
            getattr(run, name)
    assert not hasattr(run, "experiment") and not hasattr(run, "get_secret") and not hasattr(run, "nonsense")
    assert copy.deepcopy(child).name == "first"


def test_no_offline_run_when_it_is_not_allowed():
    with pytest.raises(RunEnvironmentException, match="not part of a run"):
        Run.get_context(allow_offline=False)
