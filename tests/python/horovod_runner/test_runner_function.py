"""horovod.run: functions on ranks, and what they return or raise."""
import os
import sys
import textwrap

import pytest
from running import Job

import horovod.runner


def place(more=0):
    """Runs on the ranks: pickled by reference, so the ranks import this module."""
    return int(os.environ["HOROVOD_RANK"]) + more, int(os.environ["HOROVOD_SIZE"])


def fail_on_1():
    if os.environ["HOROVOD_RANK"] == "1":
        raise KeyError("what rank 1 says")
    import time

    time.sleep(300)


def leave():
    os._exit(0)


def unpicklable():
    return sys._getframe()


def big(n):
    return os.environ["HOROVOD_RANK"].encode() * n


def in_a_world():
    from horovod.runner.elastic.client import WorkerClient

    WorkerClient.from_env().next_world(60)
    return place()


def test_results_by_rank():
    assert horovod.runner.run(place, (10,), num_proc=3) == [(10, 3), (11, 3), (12, 3)]
    assert horovod.runner.run(place, kwargs={"more": 1}, np=2) == [(1, 2), (2, 2)]
    assert horovod.runner.run(place) == [(0, 1)]


def test_large_results():
    assert horovod.runner.run(big, (5000000,), num_proc=2) == [b"0" * 5000000, b"1" * 5000000]


def test_error_has_rank_and_traceback():
    with pytest.raises(RuntimeError) as e:
        horovod.runner.run(fail_on_1, num_proc=2)
    text = str(e.value)
    assert text.startswith("the function failed on rank 1: KeyError: 'what rank 1 says'\nTraceback")
    assert "in fail_on_1" in text and isinstance(e.value.__cause__, KeyError)


def test_rank_without_a_result():
    with pytest.raises(RuntimeError, match="rank 0, 1 ended without a result"):
        horovod.runner.run(leave, num_proc=2)


def test_result_that_cannot_be_pickled():
    with pytest.raises(RuntimeError, match="the result of the function cannot be pickled"):
        horovod.runner.run(unpicklable, num_proc=1)


def test_wrong_settings():
    with pytest.raises(ValueError, match="need 3 slots"):
        horovod.runner.run(place, num_proc=3, hosts="localhost:2")


def test_elastic_function():
    assert horovod.runner.run(in_a_world, num_proc=2, min_num_proc=1, max_num_proc=2) == [(0, 2), (1, 2)]


def test_from_a_thread():
    import threading

    found = []
    thread = threading.Thread(target=lambda: found.append(horovod.runner.run(place, num_proc=2)))
    thread.start()
    thread.join(60)
    assert found == [[(0, 2), (1, 2)]]


def test_function_of_the_script_itself(tmp_path):
    """Also without cloudpickle, which carries such functions: the ranks load the script, but not as __main__."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent("""
        import os, sys
        import horovod
        class Value:
            def __init__(self, n): self.n = n
        def f(v):
            return Value(v.n + int(os.environ["HOROVOD_RANK"]))
        if __name__ == "__main__":
            print("result", [v.n for v in horovod.run(f, (Value(5),), num_proc=2)])
        """))
    for hide in ("", "import sys; sys.modules['cloudpickle'] = None\n"):
        path.write_text(hide + path.read_text())
        job = Job(command=str(path))
        assert job.end() == 0, job.err
        assert "result [5, 6]" in job.out


def test_through_ssh(sshd, monkeypatch):
    monkeypatch.setenv("PATH", sshd.env["PATH"])
    assert horovod.runner.run(place, hosts="localhost:1,127.0.0.2:1", num_proc=2, ssh_port=sshd.port,
                              ssh_identity_file=sshd.identity) == [(0, 2), (1, 2)]
