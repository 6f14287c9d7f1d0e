"""Kill daemon or runner with -9 at a random moment of a run's life, many times, and look at what is left.

The script of each run keeps its own account of what it printed and logged, with fsync, in a file that nobody else
touches.  Afterwards the account is compared with what the service tells: no line and no row that was acknowledged
(written by the script, or seen by a reader before the kill) may be missing or doubled, the event log must have no gap,
and the run must end in its true state.
"""
import http.client
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time

KILLS = int(os.environ.get("KILLS", "20"))
SEED = int(os.environ.get("SEED", str(random.SystemRandom().randrange(1 << 30))))
HOME = os.environ["TRAINYARD_HOME"]
BUILD = os.environ["PATH"].split(":")[0]
MOMENTS = ["Queued", "Running", "Finalizing", "CancelRequested", "NotResponding", "Ended"]

SCRIPT = """
import os, sys, time
from azureml.core.run import Run
run = Run.get_context()
account = open(os.environ["ACCOUNT"], "a")
os.makedirs("outputs", exist_ok=True)
for i in range(int(os.environ["LINES"])):
    print("line", i)
    run.log("value", i)
    account.write("%d\\n" % i); account.flush()
    time.sleep(0.002)
for i in range(300):
    with open("outputs/file%d" % i, "w") as f: f.write("x" * 2000 + str(i))
print("end")
account.write("end\\n"); account.flush()
"""


def trainyard(*args, check=True):
    """The standard output of a `trainyard` command."""
    done = subprocess.run([os.path.join(BUILD, "trainyard"), *args], capture_output=True, text=True, timeout=120)
    if check and done.returncode != 0:
        raise AssertionError("trainyard %s exited with %d: %s" % (" ".join(args), done.returncode, done.stderr))
    return done.stdout


class Daemon(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(os.path.join(HOME, "sock"))


def get(path):
    """The JSON of a GET request to the daemon."""
    c = Daemon("trainyard")
    c.request("GET", path)
    reply = c.getresponse()
    assert reply.status == 200, "%s: %d" % (path, reply.status)
    return json.loads(reply.read())


def show(run):
    return json.loads(trainyard("show", run, "--json"))


def until(seconds, fn, what):
    """fn's first true value; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        value = fn()
        if value:
            return value
        time.sleep(0.004)
    raise AssertionError("not within %d s: %s" % (seconds, what))


def runner_of(run):
    try:
        with open(os.path.join(HOME, "jobs", run, "runner.id")) as f:
            return int(f.read().split()[1])
    except (OSError, IndexError, ValueError):
        return None


def kill(pid, how=signal.SIGKILL):
    try:
        os.kill(pid, how)
        return True
    except ProcessLookupError:
        return False


def daemon_pid():
    return json.loads(trainyard("status", "--json"))["pid"]


def reach(run, moment, rng):
    """Wait until the run is at the moment, then a little longer."""
    if moment == "CancelRequested":
        until(60, lambda: show(run)["state"] in ("Running", "Completed"), "running, to be canceled")
        trainyard("cancel", run)
    elif moment == "NotResponding":
        until(60, lambda: show(run)["state"] in ("Running", "Completed"), "running, to be stopped")
        pid = runner_of(run)
        if pid and kill(pid, signal.SIGSTOP):
            until(60, lambda: show(run)["state"] in ("NotResponding", "Completed"), "silence of its runner noticed")
    elif moment != "Queued":
        states = {"Running": ("Running", "Finalizing"), "Finalizing": ("Finalizing",), "Ended": ()}[moment]
        until(60, lambda: (s := show(run)["state"]) in states or s in ("Completed", "Failed", "Canceled"), moment)
    time.sleep(rng.choice([0, 0, 0.003, 0.02, 0.08]) if moment != "Running" else rng.uniform(0, 0.4))
    return show(run)["state"]


def check_run(run, account, victim, seen, canceled):
    trainyard("wait", run, check=False)
    told = show(run)
    wrote = open(account).read().split() if os.path.exists(account) else []
    finished = wrote[-1:] == ["end"]
    allowed = {"Completed"} if finished else set()
    if victim == "runner":
        allowed |= {"Failed"} if not finished else {"Completed", "Failed"}
    if canceled:
        allowed |= {"Canceled"}
    assert told["state"] in allowed, "%s, though its script %s" % (told["state"], "ended well" if finished else "did not end")

    numbers = [int(i) for i in wrote if i != "end"]
    log = trainyard("logs", run)
    lines = [int(n) for n in re.findall(r"^line (\d+)$", log, re.M)]
    # the last line may have been printed and not been accounted for: the account is written after it
    assert lines[:len(numbers)] == numbers and len(lines) - len(numbers) <= 1, "log lines %d..%d of %d" % (
        lines[0] if lines else -1, lines[-1] if lines else -1, len(numbers))
    assert lines == list(range(len(lines))), "log lines are lost or doubled"
    assert log.startswith(seen), "bytes that a reader had seen have changed"

    rows = json.loads(trainyard("metrics", run, "--json", "--rows"))["rows"]
    values = sorted(r["value"] for r in rows if r["name"] == "value")
    assert values[:len(numbers)] == numbers and values == list(range(len(values))), "metric rows are lost or doubled"
    assert len({(r["writer"], r["seq"]) for r in rows}) == len(rows), "a row came twice"

    events = get("/api/v1/runs/%s/events?limit=1000" % run)["events"]
    assert [e["seq"] for e in events] == list(range(1, len(events) + 1)), "the event log has a gap"
    if told["state"] == "Completed":
        files = json.loads(trainyard("artifacts", "ls", run, "--json"))["files"]
        assert sum(f["path"].startswith("outputs/file") for f in files) == 300, "outputs are missing"
    return told["state"]


class Tally:
    """One kill after the other, and what they hit."""

    def __init__(self, rng):
        self.rng, self.done, self.bad, self.hit, self.ends = rng, 0, 0, {}, {}

    def kill_once(self, victim, moment):
        self.done += 1
        account = os.path.join(os.getcwd(), "account%d" % self.done)
        run = trainyard("submit", "-q", "--env", "ACCOUNT=" + account, "--env", "PYTHONPATH=" + os.environ["PYTHONPATH"], "--env",
                        "LINES=%d" % self.rng.randrange(50, 200), "--", "/usr/bin/python3", "train.py").strip()
        try:
            state = reach(run, moment, self.rng)
            seen = trainyard("logs", run, check=False)
            pid = daemon_pid() if victim == "daemon" else runner_of(run)
            killed = kill(pid) if pid else False
            stopped = runner_of(run)
            if stopped:
                kill(stopped, signal.SIGCONT)
            self.hit[(victim, state)] = self.hit.get((victim, state), 0) + killed
            end = check_run(run, account, victim if killed else "nobody", seen, moment == "CancelRequested")
            self.ends[end] = self.ends.get(end, 0) + 1
        except AssertionError as e:
            self.bad += 1
            print("not ok - kill %d (%s in %s, seed %d): %s" % (self.done, victim, moment, SEED, e))
            print("#   " + trainyard("show", run, check=False).replace("\n", "\n#   "))


def main():
    print("# seed %d, %d kills" % (SEED, KILLS))
    with open("train.py", "w") as f:
        f.write(SCRIPT)
    tally = Tally(random.Random(SEED))
    for i in range(KILLS):
        tally.kill_once(("daemon", "runner")[i % 2], MOMENTS[(i // 2) % len(MOMENTS)])
    wanted = [(v, s) for v in ("daemon", "runner") for s in ("Queued", "Running", "CancelRequested", "NotResponding", "Finalizing")]
    for victim, state in wanted:  # short states are missed now and then: aim again, a bounded number of times
        for _ in range(25):
            if tally.hit.get((victim, state)):
                break
            tally.kill_once(victim, state)
    print("# hit: %s; ends: %s" % (tally.hit, tally.ends))
    print("%s - %d kills, nothing lost, nothing doubled" % ("not ok" if tally.bad else "ok", tally.done))
    missing = [w for w in wanted if not tally.hit.get(w)]
    print("%s - daemon and runner were killed in every state that lasts%s" % ("not ok" if missing else "ok", missing or ""))
    until(20, lambda: not os.listdir(os.path.join(HOME, "jobs")), "job folders gone")
    print("ok - no job folder is left")
    return 1 if tally.bad or missing else 0


if __name__ == "__main__":
    sys.exit(main())
