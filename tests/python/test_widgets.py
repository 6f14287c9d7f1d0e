"""RunDetails in a terminal, in a notebook, and where the service does not answer."""
import sys
import types

import pytest
from conftest import wait_until

from azureml.core import Run, _service
from azureml.exceptions import ServiceException
from azureml.train.widgets import RunDetails as OldRunDetails
from azureml.widgets import RunDetails


@pytest.fixture
def notebook(monkeypatch):
    """Modules as in a kernel of Jupyter; the list of what was displayed."""
    shown = []
    ipython, display = types.ModuleType("IPython"), types.ModuleType("IPython.display")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    display.display = lambda data, raw: shown.append(data)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return shown


def test_in_a_terminal(submit, capsys):
    run = submit("from azureml.core import Run\nrun = Run.get_context()\nfor i in range(3): run.log('loss', i)\n"
                 "run.log('one', 0.5)\nrun.log_row('row', x=1, y=2)\nrun.tag('a', 'b')\n", experiment="shown")
    run.wait_for_completion()
    assert RunDetails(run).show() is None
    lines = [line.split(None, 1) for line in capsys.readouterr().out.splitlines()]
    found = dict(lines)
    assert (found["Experiment"], found["Id"], found["Status"], found["Target"]) == ("shown", run.id, "Completed", "local")
    assert found["Duration"].startswith("0:00:") and "train.py" in found["Command"] and found["Tags"] == "a=b"
    assert [text for name, text in lines if name == "Metric"] == ["loss = 2 (the last of 3)", "one = 0.5", "row = x: 1, y: 2"]
    assert run.id in found["Details"] and "Follow" not in found
    assert OldRunDetails is RunDetails


def test_while_it_goes_on(submit, project, capsys):
    gate = project("gate", "")
    run = submit("import os, time\nwhile os.path.exists(%r): time.sleep(0.02)\n" % str(gate))
    try:
        wait_until(lambda: run.get_status() == "Running")
        RunDetails(run).show()
    finally:
        gate.unlink()
    out = capsys.readouterr().out
    assert "Running" in out and "trainyard logs -f %s" % run.id in out
    run.wait_for_completion()


def test_in_a_notebook(submit, notebook, capsys):
    run = submit("import sys\nsys.exit(3)\n")
    run.wait_for_completion(raise_on_error=False)
    run.tag("<script>", "x & y")
    RunDetails(run).show()
    (data,) = notebook
    assert capsys.readouterr().out == "" and "Failed" in data["text/plain"]
    page = data["text/html"]
    assert page.startswith("<table>") and "<script>" not in page and "&lt;script&gt;=x &amp; y" in page and "Error" in page
    assert page.count("<tr>") == page.count("</tr>") == page.count("<th ")


def test_widget_data(submit):
    run = submit("import sys\nsys.exit(2)\n", arguments=["--output-dir", "./outputs"])
    run.wait_for_completion(raise_on_error=False)
    data = RunDetails(run).get_widget_data()
    assert data["status"] == "Failed" and data["error"] and run.id in data["workbench_uri"]
    kept = data["run_properties"]
    assert (kept["script_name"], kept["arguments"], kept["distributed_processes"]) == ("train.py", "--output-dir ./outputs", [])
    assert kept["run_duration"].startswith("0:0") and kept["created_utc"] <= kept["end_time_utc"]
    assert "azureml-logs/70_driver_log.txt" in kept["log_files"] and "ContentSnapshotId" in kept["properties"]


def test_it_never_ends_a_program(submit, monkeypatch, capsys):
    run = submit("pass\n")
    run.wait_for_completion()

    def gone():
        raise ServiceException("the daemon went away")

    with monkeypatch.context() as patch:
        patch.setattr("azureml.core.run.client", gone)
        RunDetails(run).show()
    assert "Unknown     the daemon went away" in capsys.readouterr().out
    RunDetails(Run.get_context()).show(render_lib=None, widget_settings={})
    assert "Run" in capsys.readouterr().out
    assert _service.client() is not None
