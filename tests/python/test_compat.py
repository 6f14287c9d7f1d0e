"""docs/compat.md says what the tests of this run have used. Runs last."""
import os

import compat


def test_what_counts_as_use(request):
    calls = request.config.compat_recorder.calls
    for name in ("DsvmCompute", "DsvmCompute.attach", "AksCompute.provisioning_configuration", "Environment.from_docker_build_context"):
        assert calls[name]["refused"] and not calls[name]["tests"], name  # a call that raises
    assert calls["ComputeTarget"]["tests"] and calls["DockerSection.base_image"]["tests"] and calls["Workspace.location"]["tests"]
    assert not any("" in one["tests"] for one in calls.values())  # what happens while tests are collected
    assert compat.names_in("run = Run.get_context()\nrun.experiment.workspace.name\nother.log()\nrun.child_run().parent.tag('a')") == {
        "Run.get_context", "Run.experiment", "Experiment.workspace", "Workspace.name", "Run.child_run", "Run.parent", "Run.tag"}
    assert compat.names_in("no program at all") == set()


def test_the_page_says_what_the_tests_have_used(request):
    recorder = request.config.compat_recorder
    recorder.stop()
    text = compat.document(recorder.calls)
    if os.environ.get("COMPAT_WRITE"):
        with open(compat.DOCUMENT, "w", encoding="utf-8") as file:
            file.write(text)
    with open(compat.DOCUMENT, encoding="utf-8") as file:
        kept = file.read()
    changed = sorted(set(text.splitlines()) ^ set(kept.splitlines()))
    assert not changed, "docs/compat.md is not what the tests give (COMPAT_WRITE=1 writes it): %s" % "\n".join(changed[:20])
