"""Compute targets, the way notebooks make them."""
import pytest
from conftest import wait_until

from azureml.core.compute import (AksCompute, AmlCompute, BatchAiCompute, ComputeInstance, ComputeTarget, DsvmCompute, HDInsightCompute,
                                  RemoteCompute)
from azureml.core.compute_target import ComputeTargetException
from azureml.exceptions import UserErrorException


def test_the_notebooks_cell(workspace, capsys):
    cpu_cluster_name = "cpucluster"
    try:
        cpu_cluster = ComputeTarget(workspace=workspace, name=cpu_cluster_name)
        pytest.fail("it should not exist yet")
    except ComputeTargetException:
        compute_config = AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=4,
                                                               idle_seconds_before_scaledown="300")
        cpu_cluster = ComputeTarget.create(workspace, cpu_cluster_name, compute_config)
    cpu_cluster.wait_for_completion(show_output=True, min_node_count=1, timeout_in_minutes=20)
    assert "Succeeded" in capsys.readouterr().out
    assert isinstance(ComputeTarget(workspace=workspace, name=cpu_cluster_name), AmlCompute)
    status = cpu_cluster.get_status().serialize()
    assert set(status) == {
        "currentNodeCount", "targetNodeCount", "nodeStateCounts", "allocationState", "allocationStateTransitionTime", "errors",
        "creationTime", "modifiedTime", "provisioningState", "provisioningStateTransitionTime", "scaleSettings", "vmPriority",
        "vmSize"}
    assert status["scaleSettings"] == {"minNodeCount": 0, "maxNodeCount": 4, "nodeIdleTimeBeforeScaleDown": "PT300S"}
    assert status["vmSize"] == "STANDARD_D2_V2" and status["provisioningState"] == "Succeeded"
    assert cpu_cluster.status.serialize()["vmPriority"] == "Dedicated"
    assert cpu_cluster.type == "AmlCompute" and cpu_cluster.provisioning_state == "Succeeded"
    cpu_cluster.update(max_nodes=2)
    assert ComputeTarget(workspace, cpu_cluster_name).get_status().scale_settings["maxNodeCount"] == 2
    cpu_cluster.delete()
    with pytest.raises(ComputeTargetException):
        ComputeTarget(workspace, cpu_cluster_name)


def test_a_name_that_is_taken(workspace):
    AmlCompute.create(workspace, "twice", AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6"))
    with pytest.raises(ComputeTargetException, match="'twice' already"):
        ComputeTarget.create(workspace, "twice", AmlCompute.provisioning_configuration())


@pytest.mark.parametrize("name", ["a", "x" * 40, "a b", "-a", "ä"])
def test_what_cannot_be_a_name(workspace, name):
    with pytest.raises(ComputeTargetException):
        ComputeTarget.create(workspace, name, AmlCompute.provisioning_configuration())
    assert name not in workspace.compute_targets


@pytest.mark.parametrize("parameters, word", [
    ({"max_nodes": 0}, "max_nodes"), ({"max_nodes": "many"}, "max_nodes"), ({"min_nodes": -1}, "min_nodes"),
    ({"min_nodes": 5, "max_nodes": 2}, "max_nodes"), ({"vm_priority": "cheap"}, "vm_priority"), ({"vm_size": 6}, "vm_size")])
def test_bad_parameters(parameters, word):
    with pytest.raises(UserErrorException, match=word):
        AmlCompute.provisioning_configuration(**parameters)


def test_what_means_something_only_in_the_cloud_warns_once():
    with pytest.warns(UserWarning, match="admin_username"):
        AmlCompute.provisioning_configuration(vm_size="STANDARD_NC6", admin_username="me")


def test_other_machines_are_refused_by_name(workspace):
    with pytest.raises(UserErrorException, match="'dsvm'"):
        ComputeTarget.attach(workspace, "dsvm", attach_configuration=None)


def test_sizes(workspace):
    (box,) = AmlCompute.supported_vmsizes(workspace=workspace)
    assert {"name", "vCPUs", "gpus", "memoryGB", "maxResourceVolumeMB"} == set(box) and box["vCPUs"] >= 1


def test_local_cannot_be_deleted(workspace):
    with pytest.raises(ComputeTargetException):
        ComputeTarget(workspace, "local").delete()


def test_the_times_and_counts_are_the_services(workspace, submit, project):
    box = ComputeTarget.create(workspace, "counted", AmlCompute.provisioning_configuration(vm_size="STANDARD_D2_V2", max_nodes=3))
    status = box.get_status().serialize()
    assert (status["currentNodeCount"], status["nodeStateCounts"]["idleNodeCount"]) == (3, 3)
    assert status["creationTime"] and status["nodeStateCounts"]["runningNodeCount"] == 0
    assert status["creationTime"] == status["allocationStateTransitionTime"] == status["provisioningStateTransitionTime"]
    assert status["modifiedTime"] is None and status["errors"] is None and status["allocationState"] == "Steady"
    gate = project("gate", "")
    run = submit("import os, time\nwhile os.path.exists(%r): time.sleep(0.02)\n" % str(gate), compute_target=box)
    try:
        wait_until(lambda: run.get_status() == "Running")
        counts = box.get_status().serialize()["nodeStateCounts"]
        assert (counts["runningNodeCount"], counts["idleNodeCount"]) == (1, 2)
        assert [n["nodeState"] for n in box.list_nodes()] == ["running"]
        assert [r.id for r in box.get_active_runs()] == [run.id] and list(box.get_active_runs(status="Queued")) == []
        with pytest.raises(ComputeTargetException, match="cannot delete the compute target 'counted'"):
            box.delete()
    finally:
        gate.unlink()
    run.wait_for_completion()
    assert list(box.get_active_runs()) == []
    box.update(min_nodes=1, max_nodes=2, idle_seconds_before_scaledown=60)
    assert box.get_status().serialize()["scaleSettings"] == {
        "minNodeCount": 1, "maxNodeCount": 2, "nodeIdleTimeBeforeScaleDown": "PT60S"}
    with pytest.raises(ComputeTargetException, match="min_nodes"):
        box.update(min_nodes=5)
    assert box.provisioning_errors == [] and box.serialize()["properties"]["vmSize"] == "STANDARD_D2_V2"
    assert {"id", "name", "type", "location", "provisioningState"} <= set(box.serialize())
    assert box.id.endswith("/computes/counted") and box.name in [t.name for t in ComputeTarget.list(workspace)]
    with pytest.raises(ComputeTargetException, match="is there"):
        box.wait_for_completion(is_delete_operation=True)
    box.delete()
    box.wait_for_completion(show_output=True, is_delete_operation=True)


def test_batch_ai_is_the_older_name(workspace):
    config = BatchAiCompute.provisioning_configuration(vm_size="STANDARD_NC6", autoscale_enabled=True, cluster_min_nodes=0,
                                                       cluster_max_nodes=4)
    target = ComputeTarget.create(workspace, "batchai", config)
    assert target.get_status().serialize()["scaleSettings"]["maxNodeCount"] == 4
    assert isinstance(BatchAiCompute(workspace, "batchai"), AmlCompute)


@pytest.mark.parametrize("kind", [RemoteCompute, DsvmCompute, AksCompute, HDInsightCompute, ComputeInstance])
def test_notebooks_with_other_targets(workspace, kind):
    """try to find it; except ComputeTargetException: make it."""
    with pytest.raises(ComputeTargetException, match="no %s 'mine'" % kind.__name__):
        kind(workspace=workspace, name="mine")
    with pytest.raises(ComputeTargetException):
        kind(workspace, "local")
    for call in (lambda: kind.provisioning_configuration(vm_size="Standard_D2_v2"), lambda: kind.create(workspace, name="mine"),
                 lambda: kind.supported_vmsizes(workspace=workspace),
                 lambda: kind.attach_configuration(username="u", address="a", ssh_port=22, password="secret"),
                 lambda: kind.attach(workspace=workspace, name="mine", username="u", address="a")):
        with pytest.raises(UserErrorException, match="%s.*later release of Trainyard; use 'local'" % kind.__name__) as caught:
            call()
        assert "secret" not in str(caught.value)
    assert AksCompute.ClusterPurpose.DEV_TEST == "DevTest"
