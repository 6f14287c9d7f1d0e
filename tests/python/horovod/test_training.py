"""The training scripts in examples/horovod: the loss of each step is the same with 1, 2 and 4 ranks."""
import os
import re
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import launch  # noqa: E402

EXAMPLES = os.path.join(launch.HERE, "..", "..", "..", "examples", "horovod")
RELATIVE = 1e-3

SCRIPTS = {
    "mnist": ["mnist.py", "--steps", "12"],
    "mnist, passes, groups, predivide": ["mnist.py", "--steps", "6", "--passes", "2", "--groups", "3",
                                         "--gradient-predivide-factor", "3"],
    "resnet": ["resnet.py", "--steps", "6", "--width", "8", "--side", "16", "--stages", "3", "--batch", "16"],
    "resnet, SyncBatchNorm": ["resnet.py", "--steps", "3", "--width", "8", "--side", "16", "--stages", "3", "--norm", "sync"],
    "elastic": ["elastic.py"],
    "adasum": ["adasum.py", "--whole-batch", "--steps", "12"],
    "uneven": ["uneven.py", "--steps", "12"],
}


def losses(ranks, script):
    """{step: loss}"""
    argv = [os.path.join(EXAMPLES, script[0])] + script[1:]
    status, output = launch.mpirun(ranks, argv, timeout=180)
    assert status == 0, output[-4000:]
    found = {int(step): float(loss) for step, loss in re.findall(r"^step (\d+) loss (\S+)$", output, re.M)}
    assert sorted(found) == list(range(len(found))), output[-4000:]
    return found


@pytest.mark.parametrize("name", SCRIPTS)
def test_loss_does_not_depend_on_the_number_of_ranks(name):
    alone = losses(1, SCRIPTS[name])
    assert len(alone) >= 3 and alone[len(alone) - 1] < alone[0], "nothing is learned: %s" % alone
    for ranks in (2, 4):
        found = losses(ranks, SCRIPTS[name])
        assert found.keys() == alone.keys()
        for step, loss in alone.items():
            assert abs(found[step] - loss) <= RELATIVE * abs(loss), (ranks, step, loss, found[step])
