"""Jobs on this host."""
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from running import Job, lines, run

import horovod.runner
from horovod.runner.process import Process
from horovod.runner.settings import Settings
from horovod.runner.static import StaticJob

SHOW = "import os; print(' '.join(os.environ.get('HOROVOD_' + n, '-') for n in " \
       "'RANK SIZE LOCAL_RANK LOCAL_SIZE CROSS_RANK CROSS_SIZE CONTROLLER HOSTNAME'.split()))"


def test_places_and_lines():
    status, out, err = run("-np", 3, sys.executable, "-c", SHOW)
    assert (status, err) == (0, "")
    assert lines(out) == {r: ["%d 3 %d 3 0 1 gloo localhost" % (r, r)] for r in range(3)}


def test_command_gets_its_words_and_no_input():
    status, out, _ = run("-np", 1, "--", sys.executable, "-c", "import sys; print(sys.argv[1:], sys.stdin.read())",
                         "a b", "-np", "$HOME", "")
    assert status == 0 and lines(out)[0] == ["['a b', '-np', '$HOME', ''] "]


def test_rendezvous_is_there_and_closed_to_strangers():
    code = """import os, socket
host, port = os.environ["TRAINYARD_COLL_RENDEZVOUS"].split(":")
assert (host, port) == (os.environ["HOROVOD_GLOO_RENDEZVOUS_ADDR"], os.environ["HOROVOD_GLOO_RENDEZVOUS_PORT"])
assert len(os.environ["TRAINYARD_COLL_SECRET"]) == len(os.environ["HOROVOD_SECRET_KEY"]) == 64
socket.create_connection((host, int(port)), 10).close()
print("reached")"""
    status, out, err = run("-np", 2, sys.executable, "-c", code)
    assert status == 0 and lines(out) == {0: ["reached"], 1: ["reached"]}, err


def test_options_reach_the_ranks():
    code = "import os; print(os.environ['HOROVOD_FUSION_THRESHOLD'], os.environ['HOROVOD_START_TIMEOUT'], " \
           "os.environ['HOROVOD_GLOO_IFACE'])"
    status, out, _ = run("-np", 1, "--fusion-threshold-mb", 1, "--start-timeout", 9, "--network-interfaces", "lo",
                         sys.executable, "-c", code)
    assert status == 0 and lines(out)[0] == ["1048576 9 lo"]


def test_variables_of_a_launcher_around_it_stay_outside():
    outer = ("HOROVOD_RANK HOROVOD_ELASTIC HOROVOD_SECRET_KEY HOROVOD_CROSS_SIZE HOROVOD_GLOO_RENDEZVOUS_ADDR "
             "TRAINYARD_HOROVOD_DRIVER TRAINYARD_HOROVOD_WORKER TRAINYARD_COLL_SECRET").split()
    code = "import os; print(sorted(n for n in os.environ if os.environ[n] == 'outer'), 'HOROVOD_ELASTIC' in os.environ)"
    status, out, _ = run("-np", 1, sys.executable, "-c", code, env=dict.fromkeys(outer + ["MINE"], "outer"))
    assert status == 0 and lines(out)[0] == ["['MINE'] False"]


def test_hosts_that_are_this_one():
    status, out, _ = run("-np", 3, "-H", "localhost:1,%s:2" % socket.gethostname(), sys.executable, "-c", SHOW)
    assert status == 0
    assert lines(out)[2] == ["2 3 1 2 0 1 gloo " + socket.gethostname()]


def test_hostfile(tmp_path):
    (tmp_path / "hosts").write_text("localhost slots=2\n")
    status, out, _ = run("--hostfile", tmp_path / "hosts", sys.executable, "-c", SHOW)
    assert status == 0 and sorted(lines(out)) == [0, 1]


def test_output_files(tmp_path):
    status, out, err = run("-np", 2, "--output-filename", tmp_path / "o", "sh", "-c",
                           "echo o$HOROVOD_RANK; echo e$HOROVOD_RANK >&2")
    assert status == 0 and lines(out) == {0: ["o0"], 1: ["o1"]} and lines(err, "stderr") == {0: ["e0"], 1: ["e1"]}
    assert (tmp_path / "o/rank.1/stdout").read_text() == "o1\n" and (tmp_path / "o/rank.0/stderr").read_text() == "e0\n"


def test_much_output_is_complete():
    status, out, _ = run("-np", 2, sys.executable, "-c", "for i in range(50000): print(i)")
    assert status == 0 and lines(out) == {r: list(map(str, range(50000))) for r in range(2)}


# ---- failures ----

def test_one_rank_that_fails_ends_the_others_and_is_named():
    begin = time.monotonic()
    status, _, err = run("-np", 3, "sh", "-c", "[ $HOROVOD_RANK = 1 ] && exit 7; sleep 300 & sleep 300")
    assert status == 7 and time.monotonic() - begin < 5
    assert "horovodrun: rank 1 (host localhost, pid " in err
    assert ") exited with status 7; the other ranks have been ended\n" in err


def test_rank_that_is_killed_is_the_cause():
    status, _, err = run("-np", 2, "sh", "-c", "[ $HOROVOD_RANK = 1 ] && kill -9 $$; sleep 300")
    assert status == 137 and "rank 1 (host localhost, pid " in err and "was killed by signal 9 (SIGKILL)" in err


def test_of_ranks_that_end_together_the_killed_one_is_the_cause():
    job = StaticJob(Settings(np=4, command=["x"]))
    ended = [Process("localhost", rank, None) for rank in range(4)]
    for process, status in zip(ended, (3, 0, -9, -15)):
        process.status = status
    ended[3].ending = True          # the launcher ended it
    told = []
    job._processes = type("Told", (), {"live": [], "end_all": lambda self: told.append(1)})()
    job._ended.extend(ended)
    assert job._round_done() and job._failed is ended[2] and told == [1]


def test_rank_that_ignores_sigterm_is_killed():
    begin = time.monotonic()
    status, _, _ = run("-np", 2, "sh", "-c", "trap '' TERM; [ $HOROVOD_RANK = 1 ] && exit 1; while :; do sleep 1; done")
    assert status == 1 and 4 < time.monotonic() - begin < 15


def test_a_rank_that_ends_early_and_well_ends_nobody():
    status, out, _ = run("-np", 2, "sh", "-c", "[ $HOROVOD_RANK = 0 ] || { sleep 0.3; echo still; }")
    assert status == 0 and lines(out) == {1: ["still"]}


def test_children_of_a_rank_end_with_it():
    status, out, _ = run("-np", 1, "sh", "-c", "sleep 300 & echo begun")
    assert status == 0 and lines(out) == {0: ["begun"]}     # run() asserts that nothing is left


def test_command_that_is_not_there():
    status, _, err = run("-np", 2, "/no/such/program")
    assert status == 127 and "horovodrun: cannot start '/no/such/program': No such file or directory" in err


# ---- the launcher itself ----

WAIT = "import os, time; print('up', flush=True); os.fork(); time.sleep(300)"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_to_the_launcher_ends_all(number):
    job = Job("-np", 2, sys.executable, "-c", WAIT)
    job.wait_for(r"^\[0\]<stdout>:up$")
    job.wait_for(r"^\[1\]<stdout>:up$")
    job.process.send_signal(number)
    assert job.end() == 128 + number
    assert "ended by %s" % signal.Signals(number).name in job.err


def test_second_interrupt_kills_at_once():
    job = Job("-np", 1, "sh", "-c", "trap 'echo asked' TERM; echo up; while :; do sleep 0.1; done")
    job.wait_for(":up$")
    job.process.send_signal(signal.SIGINT)
    job.wait_for(":asked$")
    begin = time.monotonic()
    job.process.send_signal(signal.SIGINT)
    assert job.end() == 130 and time.monotonic() - begin < 4


def test_killed_launcher_leaves_nothing():
    job = Job("-np", 2, "sh", "-c", "trap '' TERM; sh -c 'sleep 300' & echo up; while :; do sleep 0.1; done")
    job.wait_for(r"^\[0\]<stdout>:up$")
    job.wait_for(r"^\[1\]<stdout>:up$")
    job.process.kill()
    job.process.wait()
    job.gone()


def test_two_jobs_at_once():
    jobs = [Job("-np", 2, sys.executable, "-c", SHOW) for _ in range(2)]
    for job in jobs:
        assert job.end() == 0 and sorted(lines(job.out)) == [0, 1]


# ---- questions ----

def test_version_and_build():
    status, out, _ = run("--version")
    assert (status, out) == (0, "0.28.1\n")
    status, out, _ = run("--check-build")
    assert status == 0 and "Horovod v0.28.1:\n" in out and "    [X] Gloo\n" in out and "    [ ] TensorFlow\n" in out


@pytest.mark.parametrize("installed", [False, True])
def test_command_finds_its_package(installed, tmp_path):
    build = os.path.dirname(os.path.dirname(os.path.dirname(horovod.runner.__file__)))       # .../build/python
    program = os.path.join(os.path.dirname(build), "horovodrun")
    if installed:
        (tmp_path / "bin").mkdir()
        (tmp_path / "lib/trainyard").mkdir(parents=True)
        (tmp_path / "lib/trainyard/python").symlink_to(build)
        program = shutil.copy(program, tmp_path / "bin")
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([program, "-np", "1", "sh", "-c", "echo $PYTHONPATH"], env=dict(env, HOROVOD_PYTHON=sys.executable),
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 0
    assert os.path.realpath(lines(done.stdout)[0][0].split(":")[0]) == os.path.realpath(build)
