"""Training with horovod.torch under horovodrun."""
import os
import re
import sys

import pytest
from running import lines, run

pytest.importorskip("torch")
TRAIN = os.path.join(os.path.dirname(os.path.abspath(__file__)), "train.py")
STEPS = 12


@pytest.fixture(scope="module")
def loss(tmp_path_factory):
    """What the script comes to on one rank."""
    status, out, err = run("-np", 1, sys.executable, TRAIN, tmp_path_factory.mktemp("alone"), STEPS)
    assert status == 0, err
    return re.search(r"loss (\S+) of 1", out).group(1)


def test_two_ranks(tmp_path, loss):
    status, out, err = run("-np", 2, sys.executable, TRAIN, tmp_path, STEPS)
    assert status == 0, err
    assert lines(out) == {r: ["begins %d of 2 at 0" % r, "loss %s of 2" % loss] for r in range(2)}


def test_ranks_on_two_hosts(tmp_path, loss, sshd):
    status, out, err = run("-p", sshd.port, "-i", sshd.identity, "-H", "localhost:1,127.0.0.2:1", sys.executable, TRAIN,
                           tmp_path, STEPS, env=sshd.env)
    assert status == 0, err
    assert lines(out) == {r: ["begins %d of 2 at 0" % r, "loss %s of 2" % loss] for r in range(2)}


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_killed_rank(tmp_path, loss, rank):
    """The others go on from their last commit, and come to where they would have come without the death."""
    status, out, err = run("-np", 3, "--min-np", 2, sys.executable, TRAIN, tmp_path, STEPS, rank, 5)
    assert status == 0, err
    assert "rank %d (host localhost, pid " % rank in err and "killed by signal 9" in err
    assert sorted(re.findall(r":begins (\d) of 2 at (\d+)", out)) == [("0", "5"), ("1", "5")]
    assert re.findall(r"loss (\S+) of 2", out) == [loss] * 2


def test_killed_rank_is_replaced(tmp_path, loss):
    status, out, err = run("-np", 2, "--min-np", 2, "--blacklist-cooldown-range", 0.2, 1, sys.executable, TRAIN, tmp_path,
                           STEPS, 0, 5)
    assert status == 0, err
    assert sorted(re.findall(r":begins (\d) of 2 at (\d+)", out)) == [("0", "0"), ("0", "5"), ("1", "0"), ("1", "5")]
    assert re.findall(r"loss (\S+) of 2", out) == [loss] * 2


def test_rank_that_dies_on_its_way_into_a_world():
    """The others do not wait for it until --start-timeout: hvd.init() gets them into the next world."""
    code = """import os
from horovod.runner.elastic.client import WorkerClient
import horovod.torch as hvd
if os.environ["TRAINYARD_HOROVOD_WORKER"] == "1":
    WorkerClient.from_env().next_world(60)
    os._exit(3)
hvd.init()
print(hvd.allreduce(__import__("torch").ones(1), op=hvd.Sum).item(), "of", hvd.size(), flush=True)
hvd.shutdown()"""
    status, out, err = run("-np", 3, "--min-np", 1, "--start-timeout", 300, sys.executable, "-c", code)
    assert status == 0, err
    assert sorted(line for found in lines(out).values() for line in found) == ["2.0 of 2"] * 2


def test_static_job_names_the_killed_rank(tmp_path):
    status, _, err = run("-np", 2, sys.executable, TRAIN, tmp_path, STEPS, 1, 5)
    assert status != 0 and re.search(r"^horovodrun: rank \d \(host localhost", err, re.M), err
