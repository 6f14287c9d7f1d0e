"""Compute targets, the way notebooks make them."""
import os

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


def test_what_cannot_be_attached_or_made_is_told_of(workspace):
    with pytest.raises(UserErrorException, match="'dsvm': attach_configuration is of type NoneType; .*RemoteCompute"):
        ComputeTarget.attach(workspace, "dsvm", attach_configuration=None)
    with pytest.raises(UserErrorException, match="provisioning_configuration is of type RemoteComputeAttachConfiguration"):
        ComputeTarget.create(workspace, "dsvm", RemoteCompute.attach_configuration("me", "box2"))
    with pytest.raises(UserErrorException, match="'old' is a cluster of the Azure cloud"):
        BatchAiCompute.attach(workspace, "old", "/subscriptions/x")


def test_sizes(workspace):
    (box,) = AmlCompute.supported_vmsizes(workspace=workspace)
    assert {"name", "vCPUs", "gpus", "memoryGB", "maxResourceVolumeMB"} == set(box) and box["vCPUs"] >= 1


def test_local_cannot_be_deleted(workspace):
    with pytest.raises(ComputeTargetException):
        ComputeTarget(workspace, "local").delete()


def test_the_times_and_counts_are_the_services(workspace, submit, project, capsys):
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
    with pytest.raises(UserErrorException, match="max_nodes is 0"):
        box.update(max_nodes=0)
    capsys.readouterr()
    box.wait_for_completion(show_output=True, min_node_count=9)
    assert "2 nodes are there, and 9 were asked for (max_nodes is 2)" in capsys.readouterr().out
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


@pytest.mark.parametrize("kind", [DsvmCompute, AksCompute, HDInsightCompute, ComputeInstance])
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
        with pytest.raises(UserErrorException, match="%s.*Trainyard has no .*; use 'local'" % kind.__name__) as caught:
            call()
        assert "secret" not in str(caught.value)
    assert AksCompute.ClusterPurpose.DEV_TEST == "DevTest"


# Machines of one's own. Nothing connects to them here.

def spec_of(*words, **parameters):
    return RemoteCompute.attach_configuration(*words, **parameters)._spec()


def test_attach_configurations(project, monkeypatch):
    key = str(project("home/.ssh/id", "a key"))
    monkeypatch.setenv("HOME", os.path.dirname(os.path.dirname(key)))
    assert spec_of(username="me", address="10.0.0.2", ssh_port=2222, private_key_file="~/.ssh/id") == {
        "kind": "hosts", "hosts": [{"host": "10.0.0.2", "user": "me", "identity_file": key, "port": 2222}]}
    assert spec_of(address="box2") == {"kind": "hosts", "hosts": [{"host": "box2"}]}  # ssh's configuration knows the rest
    assert spec_of("me", ["a", {"host": "b", "user": "you", "cpus": 4}], max_nodes=1, ssh_options=["ProxyJump=gate"]) == {
        "kind": "hosts", "hosts": [{"host": "a", "user": "me"}, {"host": "b", "user": "you", "cpus": 4}], "max_nodes": 1,
        "ssh_options": ["ProxyJump=gate"]}


@pytest.mark.parametrize("parameters, words", [
    ({"address": "a", "password": "secret"}, "password: Trainyard logs in with ssh keys.*`ssh-copy-id me@a`"),
    ({"address": "a", "private_key_passphrase": "secret"}, "private_key_passphrase: .*`ssh-add KEY`"),
    ({}, "address is None"), ({"address": []}, "address is"), ({"address": 3}, "address is 3"), ({"address": [3]}, "address holds 3"),
    ({"address": {"port": 3}}, "address holds"), ({"address": {"host": "a", "speed": 3}}, "'a' has the key 'speed'"),
    ({"address": "a", "ssh_port": 0}, "ssh_port is 0"), ({"address": "a", "ssh_port": "many"}, "ssh_port is 'many'"),
    ({"address": "a", "private_key_file": "no/such"}, "private_key_file 'no/such' is no file")])
def test_attach_configurations_that_are_refused(parameters, words):
    with pytest.raises(UserErrorException, match=words) as caught:
        RemoteCompute.attach_configuration("me", **parameters)
    assert "secret" not in str(caught.value)


def test_notebooks_with_a_machine(workspace):
    with pytest.raises(UserErrorException, match="RemoteCompute: password: "):
        RemoteCompute.attach(workspace=workspace, name="mine", username="me", address="box2", ssh_port=22, password="secret")
    with pytest.raises(ComputeTargetException, match="no compute target 'mine'"):
        RemoteCompute(workspace=workspace, name="mine")
    with pytest.raises(ComputeTargetException, match="no RemoteCompute 'local': .* is of kind 'local'"):
        RemoteCompute(workspace, "local")


def test_slurm_by_name(monkeypatch):
    monkeypatch.delenv("SLURM_CONF", raising=False)
    config = AmlCompute.provisioning_configuration(max_nodes=2, slurm={"partition": "gpu", "gres": "gpu:4"})
    assert {k: config._spec()[k] for k in ("kind", "partition", "gres", "max_nodes")} == {
        "kind": "slurm", "partition": "gpu", "gres": "gpu:4", "max_nodes": 2}
    assert "kind" not in AmlCompute.provisioning_configuration()._spec()  # the service's configuration decides
    assert AmlCompute.provisioning_configuration()._spec()["idle_seconds_before_scaledown"] is None  # which differs from kind to kind
    assert "environment" not in config._spec()
    monkeypatch.setenv("SLURM_CONF", "/here/slurm.conf")
    assert config._spec()["environment"] == {"SLURM_CONF": "/here/slurm.conf"}
    own = {"partition": "gpu", "environment": {"SLURM_CONF": "/there", "A": "1"}}
    assert AmlCompute.provisioning_configuration(slurm=own)._spec()["environment"] == {"SLURM_CONF": "/there", "A": "1"}
    assert "environment" not in AmlCompute.provisioning_configuration()._spec()
    with pytest.raises(UserErrorException, match="slurm is of type str"):
        AmlCompute.provisioning_configuration(slurm="gpu")


def record(kind="slurm", **nodes):
    return {"name": "c", "created": "2026-01-01T00:00:00Z", "cpus": 0, "gpus": 0,
            "spec": {"kind": kind, "min_nodes": 1, "max_nodes": 8, "hosts": [{"host": "a"}]}, "nodes": {"max": 8, **nodes}}


def test_status_of_a_cluster_that_grows(workspace):
    made = ComputeTarget(workspace, "c", _record=record(preparing=2, running=1, idle=1, leaving=1, unusable=1, preempted=1,
                                                        allocation_state="Resizing"))
    status = made.status.serialize()
    assert status["nodeStateCounts"] == {"preparingNodeCount": 2, "runningNodeCount": 1, "idleNodeCount": 1, "unusableNodeCount": 1,
                                         "leavingNodeCount": 1, "preemptedNodeCount": 1}
    assert (status["allocationState"], status["currentNodeCount"], status["targetNodeCount"]) == ("Resizing", 3, 4)
    assert made._nodes_missing(None) is False and made.type == "AmlCompute"
    empty = ComputeTarget(workspace, "c", _record=record(preparing=1, running=0, idle=0))
    assert empty._nodes_missing(None) is True and empty._nodes_missing(0) is False
    machine = ComputeTarget(workspace, "c", _record=record("hosts", running=0, idle=1))
    assert (type(machine), machine.type, machine.address, machine.ssh_port) == (RemoteCompute, "VirtualMachine", "a", 22)
