"""Compute targets, the way notebooks make them."""
import pytest

from azureml.core.compute import AmlCompute, ComputeTarget
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
    cpu_cluster.wait_for_completion(show_output=True, min_node_count=None, timeout_in_minutes=20)
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
