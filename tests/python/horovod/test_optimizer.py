"""DistributedOptimizer and SyncBatchNorm on 1 to 4 ranks under mpirun; the cases are in optimizer_cases.py."""
import os
import sys

import pytest

pytest.importorskip("torch")
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import launch  # noqa: E402

CASES, FUNCTIONS = launch.cases_of("optimizer_cases")
HELPERS = {"raises", "net", "batch", "same", "train_both", "sgd", "adasum_of"}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return launch.Results(tmp_path_factory.mktemp("optimizer"), "optimizer_cases", CASES,
                          {"HOROVOD_DYNAMIC_PROCESS_SETS": "1"})


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("case", CASES)
def test_case(results, ranks, case):
    reason = results.check(ranks, case)
    if reason:
        pytest.skip(reason)


def test_every_function_is_listed():
    assert {f for f in FUNCTIONS if not f.startswith("_")} - HELPERS == set(CASES)
