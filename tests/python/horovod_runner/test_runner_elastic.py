"""Elastic jobs: hosts come and go, workers die, the job goes on or says why not."""
import os
import re
import signal
import socket
import sys
import time

import pytest
from running import Job, lines

WORKER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")


class Elastic(Job):
    """A job of worker.py; go(n) lets it pass the steps before n."""

    def __init__(self, folder, steps, *words, does=(), hosts=None, **options):
        self.folder, self._went = folder, 0
        if hosts is not None:
            self.set_hosts(hosts)
            script = folder / "discover"
            script.write_text("#!/bin/sh\ncat '%s'\n" % (folder / "hosts"))
            script.chmod(0o755)
            words = ("--host-discovery-script", script) + words
        (folder / "files").mkdir()
        super().__init__(*words, "--verbose", sys.executable, WORKER, folder / "files", steps, *does, **options)

    def set_hosts(self, text):
        (self.folder / "hosts.new").write_text(text)
        os.replace(self.folder / "hosts.new", self.folder / "hosts")

    def go(self, step):
        for n in range(self._went, step):
            (self.folder / "files" / ("go.%d" % n)).touch()
        self._went = step

    def ready_newcomer(self, rank):
        """Until a worker that was started as `rank` has asked for a world: the others have been told."""
        self.wait_for(r"^\[%d\]<stdout>:told added$" % rank)


def worlds(job):
    """The sizes of the worlds, in their order."""
    return [int(n) for n in re.findall(r"^horovodrun: world \d+: (\d+) ranks on", job.err, re.M)]


def test_all_goes_well(tmp_path):
    job = Elastic(tmp_path, 3, "-np", 2, "--min-np", 1, "--max-np", 2)
    job.go(3)
    assert job.end() == 0, job.err
    assert worlds(job) == [2]
    assert lines(job.out) == {r: ["world %d of 2 local %d step 0" % (r, r), "done %d" % r] for r in range(2)}


def test_killed_worker_and_the_job_goes_on(tmp_path):
    job = Elastic(tmp_path, 4, "-np", 3, "--min-np", 2, does=["kill@1.0"])
    job.go(4)
    assert job.end() == 0, job.err
    assert worlds(job) == [3, 2]
    assert "rank 0 (host localhost, pid " in job.err and "was killed by signal 9 (SIGKILL)" in job.err
    assert "host localhost gets no new workers; 2 are left" in job.err
    # The survivors keep their order, and the step that rank 0 of them was in.
    assert re.findall(r":world (\d) of 2 local \d step (\d)", job.out) in ([("0", "1"), ("1", "1")],
                                                                          [("1", "1"), ("0", "1")])


def test_killed_worker_is_replaced_after_the_cooldown(tmp_path):
    job = Elastic(tmp_path, 4, "-np", 2, "--min-np", 2, "--blacklist-cooldown-range", 0.5, 1, does=["kill@1.1"])
    job.go(4)
    assert job.end() == 0, job.err
    assert worlds(job) == [2, 2] and "1 of at least 2 workers are left; waiting for hosts" in job.err
    assert lines(job.out)[0] == ["world 0 of 2 local 0 step 0", "leaves a rank has died", "world 0 of 2 local 0 step 1",
                                 "done 0"]


def test_host_that_comes_later(tmp_path):
    name = socket.gethostname()
    job = Elastic(tmp_path, 4, "--min-np", 1, hosts="localhost:1\n")
    job.go(1)
    job.wait_for("world 0 of 1 local 0 step 0")
    job.set_hosts("localhost:1\n%s:2\n" % name)
    job.ready_newcomer(0)
    job.go(4)
    assert job.end() == 0, job.err
    assert worlds(job) == [1, 3]        # the newcomers come in together
    assert lines(job.out)[0] == ["world 0 of 1 local 0 step 0", "told added", "leaves True", "world 0 of 3 local 0 step 2",
                                 "done 0"]
    assert [line for line in lines(job.out)[2] if "world" in line] == ["world 2 of 3 local 1 step 2"]


def test_host_that_goes(tmp_path):
    name = socket.gethostname()
    job = Elastic(tmp_path, 4, "-np", 3, "--min-np", 1, hosts="%s:1\nlocalhost:2\n" % name)
    job.go(1)
    for rank in range(3):
        job.wait_for("world %d of 3 .* step 0" % rank)
    job.set_hosts("localhost:2\n")
    for rank in range(3):
        job.wait_for(r"^\[%d\]<stdout>:told removed$" % rank)
    job.go(4)
    assert job.end() == 0, job.err
    assert worlds(job) == [3, 2] and "rank 0 (host %s" % name in job.err
    assert sorted(re.findall(r":(world \d of 2 local \d step \d)", job.out)) == [
        "world 0 of 2 local 0 step 2", "world 1 of 2 local 1 step 2"]
    assert sorted(re.findall(r":done (\d)", job.out)) == ["0", "1"]


def test_max_np_bounds_growth(tmp_path):
    job = Elastic(tmp_path, 2, "-np", 2, "--max-np", 2, hosts="localhost:4\n")
    job.go(2)
    assert job.end() == 0 and worlds(job) == [2], job.err


def test_slots_of_hosts_that_name_none(tmp_path):
    job = Elastic(tmp_path, 1, "-np", 2, "--slots", 2, hosts="localhost\n")
    job.go(1)
    assert job.end() == 0 and worlds(job) == [2], job.err


def test_start_waits_for_np(tmp_path):
    job = Elastic(tmp_path, 1, "-np", 2, "--min-np", 1, hosts="localhost:1\n")
    job.go(1)
    job.wait_for("started rank 0")
    job.set_hosts("localhost:2\n")
    assert job.end() == 0 and worlds(job) == [2], job.err


# ---- jobs that fail ----

def test_too_few_are_left(tmp_path):
    job = Elastic(tmp_path, 3, "-np", 2, "--min-np", 2, does=["5@1.1"])
    job.go(3)
    assert job.end() == 5
    assert re.search(r"rank 1 \(host localhost, pid \d+\) exited with status 5; of 2 workers that are needed, 1 is left, and "
                     "no host can start more", job.err)


def test_all_fail(tmp_path):
    job = Elastic(tmp_path, 3, "-np", 2, "--min-np", 1, "--blacklist-cooldown-range", 30, 30, does=["6@0.0", "6@0.1"])
    job.go(3)
    assert job.end() == 6 and worlds(job) == [2], job.err
    assert "exited with status 6; no worker is left" in job.err


def test_worker_that_fails_after_others_have_finished(tmp_path):
    command = "from horovod.runner.elastic.client import WorkerClient; import os, sys; " \
              "WorkerClient.from_env().next_world(30); sys.exit(int(os.environ['HOROVOD_RANK']) * 4)"
    job = Job("-np", 2, "--min-np", 1, sys.executable, "-c", command)
    assert job.end() == 4
    assert "exited with status 4" in job.err


def test_newcomer_that_fails_is_not_missed(tmp_path):
    """The ranks finish while a worker that was to join them has failed."""
    code = """import os, sys
from horovod.runner.elastic.client import WorkerClient
if os.environ["TRAINYARD_HOROVOD_WORKER"] != "0":
    sys.exit(4)
WorkerClient.from_env().next_world(60)
print("in", flush=True)
while not os.path.exists(sys.argv[1]):
    pass"""
    hosts = tmp_path / "hosts"
    hosts.write_text("localhost:1\n")
    script = tmp_path / "discover"
    script.write_text("#!/bin/sh\ncat '%s'\n" % hosts)
    script.chmod(0o755)
    job = Job("-np", 1, "--max-np", 2, "--host-discovery-script", script, sys.executable, "-c", code, tmp_path / "end")
    job.wait_for(":in$")
    hosts.write_text("localhost:2\n")
    job.wait_for(r"a new worker \(host localhost, pid \d+\) exited with status 4")
    (tmp_path / "end").touch()
    assert job.end() == 0, job.err


def test_reset_limit(tmp_path):
    job = Elastic(tmp_path, 5, "-np", 3, "--min-np", 1, "--reset-limit", 1, does=["kill@1.2", "kill@2.1"])
    job.go(5)
    assert job.end() == 1
    assert worlds(job) == [3, 2] and "the world was made anew 1 times; that is the limit (--reset-limit)" in job.err


def test_no_hosts_in_time(tmp_path):
    begin = time.monotonic()
    job = Elastic(tmp_path, 1, "-np", 2, "--elastic-timeout", 2, hosts="localhost:1\n")
    assert job.end() == 1 and time.monotonic() - begin < 20
    assert "1 of at least 2 workers within 2 s; hosts: localhost:1" in job.err


@pytest.mark.parametrize("script, why", [
    ("#!/bin/sh\nexit 3\n", "it ended with status 3"),
    ("#!/bin/sh\necho not a host\n", "'not a host' is no name of a host"),
    (None, "cannot run '.*discover': No such file or directory")])
def test_discovery_that_fails(script, why, tmp_path):
    path = tmp_path / "discover"
    if script:
        path.write_text(script)
        path.chmod(0o755)
    job = Job("--host-discovery-script", path, "-np", 1, "true")
    assert job.end() == 1       # at once: the timeout of an elastic job is longer than that of this test
    assert len(re.findall("^horovodrun: .*" + why, job.err, re.M)) == 1, job.err


def test_discovery_that_breaks_later_changes_nothing(tmp_path):
    job = Elastic(tmp_path, 2, "-np", 1, hosts="localhost:1\n")
    job.go(1)
    job.wait_for("world 0 of 1")
    job.set_hosts("nonsense here\n")
    job.wait_for("the hosts from before stay")
    job.go(2)
    assert job.end() == 0 and worlds(job) == [1]


def test_worker_that_does_not_leave_its_broken_world(tmp_path):
    code = """import os, time
from horovod.runner.elastic.client import WorkerClient
c = WorkerClient.from_env()
c.next_world(30)
if os.environ["HOROVOD_RANK"] == "0":
    os._exit(8)
print("stays", flush=True)
time.sleep(300)"""
    job = Job("-np", 2, "--min-np", 1, "--elastic-timeout", 2, sys.executable, "-c", code)
    assert job.end() == 8, job.err
    assert "rank 1 (host localhost, pid " in job.err and "has not left its broken world within 2 s and is ended" in job.err


def test_programs_that_ask_for_no_world():
    job = Job("-np", 2, "--min-np", 2, "sh", "-c", "[ $TRAINYARD_HOROVOD_WORKER = 0 ] || { sleep 0.5; echo late; }")
    assert job.end() == 0 and lines(job.out) == {1: ["late"]}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_end_of_the_launcher_ends_all(number, tmp_path):
    job = Elastic(tmp_path, 1, "-np", 2, "--min-np", 1)
    job.wait_for("world 1 of 2")
    job.process.send_signal(number)
    assert job.end() == (130 if number == signal.SIGINT else -9)


def test_hosts_through_ssh(sshd, tmp_path):
    job = Elastic(tmp_path, 3, "-p", sshd.port, "-i", sshd.identity, "-np", 2, "--min-np", 1, hosts="127.0.0.2:2\n",
                  env=sshd.env, does=["kill@1.1"])
    job.go(3)
    job.wait_for("killed by signal 9|exited with status 137")
    assert job.end() == 0, job.err
    assert worlds(job) == [2, 1] and "rank 1 (host 127.0.0.2) exited with status 137" in job.err
