"""DistributedOptimizer and SyncBatchNorm on 1 to 4 ranks under mpirun; the cases are in optimizer_cases.py."""
import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import launch  # noqa: E402

MODULE = "optimizer_cases"
HELPERS = {"raises", "net", "batch", "same", "train_once", "train_both", "sgd", "adasum_of"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return launch.Results(tmp_path_factory.mktemp("optimizer"), MODULE, {"HOROVOD_DYNAMIC_PROCESS_SETS": "1"})


@pytest.mark.parametrize("ranks, case", launch.pairs(MODULE, [1, 2, 3, 4]))
def test_case(results, ranks, case):
    results.check(ranks, case)


def test_every_function_is_listed():
    cases, only, functions = launch.names_in(MODULE)
    assert {f for f in functions if not f.startswith("_")} - HELPERS == set(cases) and set(only) <= set(cases)
