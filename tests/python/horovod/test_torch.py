"""horovod.torch in jobs of 1 to 4 ranks on this machine: each worker script checks one side of it on every rank."""
import json
import os
import re
import socket
import subprocess
import sys

import job
import pytest
from horovod import _coll, _rendezvous


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
@pytest.mark.parametrize("worker", ["ops", "grads", "errors", "joins", "sets", "objects", "life"])
def test_worker(worker, ranks, tmp_path):
    done = job.mpirun(ranks, worker, TMPDIR=str(tmp_path))
    passed = re.findall(r"passed (\d+) checks", done.stdout)
    assert len(passed) == ranks and set(passed) != {"0"}, done.stdout


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("nccl", ["libfake_nccl.so", "none"])
def test_gpus_of_a_stand_in(nccl, ranks, tmp_path):
    """The stand-ins are beside the engine that is tested; tests/gpu/run has the real ones."""
    folder = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(_coll.__file__))), "tests", "unit", "coll")
    done = job.mpirun(ranks, "gpu", TMPDIR=str(tmp_path), TRAINYARD_COLL_CUDART=os.path.join(folder, "libfake_cuda.so"),
                      TRAINYARD_COLL_NCCL=nccl if nccl == "none" else os.path.join(folder, nccl))
    passed = re.findall(r"passed (\d+) checks", done.stdout)
    assert len(passed) == ranks and set(passed) == {"5"}, done.stdout


def test_without_a_launcher():
    done = subprocess.run([sys.executable, os.path.join(job.WORKERS, "ops.py")], env=job.environment(), stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=job.SECONDS)
    assert done.returncode == 0 and "passed" in done.stdout, done.stdout


def script(ranks, text, **env):
    return subprocess.run(["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), sys.executable,
                           "-c", text], env=job.environment(**env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=job.SECONDS)


def test_summary_is_printed_when_asked_for():
    text = "import torch, horovod.torch as hvd; hvd.init(); hvd.allreduce(torch.ones(250000))"
    done = script(2, text, HOROVOD_LOG_LEVEL="info")
    assert done.returncode == 0, done.stderr
    assert re.search(r"rank 0 of 2: \d+ operations, 1.0 MB", done.stderr) and "rank 1 of 2" in done.stderr, done.stderr
    done = script(2, text)
    assert done.returncode == 0 and "horovod" not in done.stderr, done.stderr


def test_a_script_that_ends_in_an_exception_ends_the_job():
    """The ranks that wait for it do not hang."""
    done = script(2, "import torch, horovod.torch as hvd\n"
                     "hvd.init()\n"
                     "if hvd.rank() == 1:\n"
                     "    raise RuntimeError('on purpose')\n"
                     "hvd.allreduce(torch.ones(3))\n")
    assert done.returncode != 0 and "on purpose" in done.stderr


def test_a_waiting_rank_is_interrupted():
    """Ctrl-C reaches Python while the engine waits, by each of its ways."""
    text = ("import os, signal, threading, time, torch, horovod.torch as hvd\n"
            "hvd.init()\n"
            "def wait(call):\n"
            "    begun = time.monotonic()\n"
            "    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
            "    try:\n"
            "        call()\n"
            "    except KeyboardInterrupt:\n"
            "        assert time.monotonic() - begun < 5\n"
            "        return\n"
            "    raise SystemExit('not interrupted')\n"
            "if hvd.rank() == 0:\n"
            "    wait(lambda: hvd.allreduce_(torch.ones(3), name='a'))\n"
            "    wait(lambda: hvd.synchronize(hvd.allreduce_async(torch.ones(3), name='b')))\n"
            "    wait(lambda: hvd.allgather(torch.ones(3), name='c'))\n"
            "    wait(hvd.barrier)\n"
            "    print('interrupted', flush=True)\n"
            "hvd.broadcast(torch.zeros(1), 0, name='go on')\n"
            "assert hvd.allreduce_async(torch.ones(3), name='d') > 0\n")
    done = script(2, text)
    assert done.returncode == 0 and "interrupted" in done.stdout, done.stdout + done.stderr


def test_a_rank_that_cannot_start_is_named_to_the_others():
    text = ("import os, torch, horovod.torch as hvd\n"
            "os.environ['HOROVOD_TIMELINE'] = '/dev/null/trace'\n"
            "try:\n"
            "    hvd.init()\n"
            "    hvd.barrier()\n"
            "except RuntimeError as e:\n"
            "    print('{', e, '}', flush=True)\n"
            "else:\n"
            "    raise SystemExit('it started')\n")
    done = script(2, text)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "{ cannot write the timeline '/dev/null/trace': Not a directory }" in done.stdout
    assert "rank 0 could not start or go on" in done.stdout


def launched(tmp_path, nodes, each, text):
    """Ranks as Trainyard's runner starts them on one box; their outputs, and the folder of what they leave."""
    size, secret = nodes * each, "of this test"
    server = _rendezvous.Rendezvous("127.0.0.1", 0, secret, size)
    ranks = []
    for rank in range(size):
        env = job.environment(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank % each), LOCAL_WORLD_SIZE=str(each),
                              NODE_RANK=str(rank // each), TRAINYARD_COLL_RANK=str(rank), TRAINYARD_COLL_SIZE=str(size),
                              TRAINYARD_COLL_RENDEZVOUS="127.0.0.1:%d" % server.port, TRAINYARD_COLL_SECRET=secret,
                              TRAINYARD_SPOOL_DIR=str(tmp_path))
        ranks.append(subprocess.Popen([sys.executable, "-c", text], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.STDOUT, text=True))
    said = [one.communicate(timeout=job.SECONDS)[0] for one in ranks]
    server.close()
    return said


def test_nodes_that_are_parts_of_a_box(tmp_path):
    """The launcher's word counts for local ranks, although all share memory."""
    text = ("import torch, horovod.torch as hvd\n"
            "hvd.init()\n"
            "total = int(hvd.allreduce(torch.ones(1), op=hvd.Sum))\n"
            "print('<', hvd.rank(), hvd.size(), hvd.local_rank(), hvd.local_size(), hvd.cross_rank(), hvd.cross_size(),\n"
            "      total, '>')\n")
    said = launched(tmp_path, 2, 2, text)
    for rank in range(4):
        assert "< %d 4 %d 2 %d 2 4 >" % (rank, rank % 2, rank // 2) in said[rank], said
    assert not [path.name for path in tmp_path.iterdir() if path.name.startswith("victim")]


def test_who_ends_because_another_has_gone_says_so(tmp_path):
    text = ("import torch, horovod.torch as hvd\n"
            "hvd.init()\n"
            "if hvd.rank() == 1:\n"
            "    raise RuntimeError('on purpose')\n"
            "hvd.allreduce(torch.ones(3))\n")
    said = launched(tmp_path, 1, 2, text)
    assert "rank 1 has shut down" in said[0] and "on purpose" in said[1], said
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("victim")] == ["victim.0"]


def test_steps_are_logged_to_the_run(tmp_path):
    text = ("import torch, horovod.torch as hvd\n"
            "hvd.init()\n"
            "m = torch.nn.Linear(3, 1)\n"
            "optimizer = hvd.DistributedOptimizer(torch.optim.SGD(m.parameters(), lr=0.1), m.named_parameters())\n"
            "for _ in range(4):\n"
            "    optimizer.zero_grad(); m(torch.ones(2, 3)).sum().backward(); optimizer.step()\n")
    done = script(2, text, TRAINYARD_RUN_ID="a_run", TRAINYARD_SPOOL_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for name in (b"hvd_step_ms", b"hvd_exposed_ms", b"hvd_mb_per_step"):
        assert written.count(name) == 1, written       # by rank 0 alone


def test_timeline_of_a_whole_job(tmp_path):
    path = tmp_path / "timeline.json"
    done = script(2, "import torch, horovod.torch as hvd; hvd.init(); hvd.allreduce(torch.ones(3), name='x')",
                  HOROVOD_TIMELINE=str(path))
    assert done.returncode == 0, done.stderr
    assert "allreduce.x" in json.dumps(json.loads(path.read_text()))


def test_a_missing_rank_is_named():
    """Rank 1 of 2 never comes: the start fails in the time that was allowed, and says who is missing."""
    text = ("import horovod.torch as hvd\n"
            "try:\n"
            "    hvd.init()\n"
            "except ValueError as e:\n"
            "    assert isinstance(e, hvd.HorovodInternalError) and not hvd.is_initialized()\n"
            "    print('failed:', e)\n")
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    done = subprocess.run([sys.executable, "-c", text], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
                          env=job.environment(RANK="0", WORLD_SIZE="2", LOCAL_RANK="0", LOCAL_WORLD_SIZE="2", MASTER_ADDR="127.0.0.1",
                                              MASTER_PORT=str(port), HOROVOD_START_TIMEOUT="2"))
    assert done.returncode == 0 and "failed: " in done.stdout and re.search(r"\b1\b", done.stdout), done.stdout
