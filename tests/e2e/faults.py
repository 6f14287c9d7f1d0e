"""Each fault point of the sources fails, in the daemon and its runners, then in the client, while a run is made.

What may come of it: the run succeeds with everything it made, or the call or the run fails with a sentence.  What may not:
a crash, a hang, a run that is told as Completed without its log and outputs, and a state folder that the next daemon
cannot use.
"""
import collections
import glob
import json
import os
import re
import shutil
import subprocess
import sys
import time

BUILD = os.environ["PATH"].split(":")[0]
HOME = os.environ["TRAINYARD_HOME"]
SECONDS = 60        # a call that takes longer hangs
VISITS = {"str.alloc": (1, 3, 10, 40, 150), "store.commit": (1, 2, 3, 4, 5, 6)}
ERRORS = ("ENOSPC", "EIO")
JOB = ["sh", "-c", "echo hello; mkdir -p outputs; echo x > outputs/o"]


class Wrong(Exception):
    """What was seen that must not be."""


def points(source):
    """The names of all fault points."""
    found = set()
    for path in glob.glob(os.path.join(source, "src", "**", "*.c"), recursive=True):
        with open(path) as f:
            found |= set(re.findall(r'FAULT\(\s*"([a-z_.]+)"', f.read()))
    return sorted(found)


def trainyard(*args, fault=None):
    """exit code, standard output, standard error"""
    env = dict(os.environ)
    if fault:
        env["TY_FAULT"] = fault
    try:
        done = subprocess.run([os.path.join(BUILD, "trainyard"), *args], capture_output=True, text=True, timeout=SECONDS, env=env)
    except subprocess.TimeoutExpired:
        raise Wrong("`trainyard %s` hangs" % " ".join(args)) from None
    if done.returncode < 0 or done.returncode == 99:
        raise Wrong("`trainyard %s` died (%d): %s" % (" ".join(args), done.returncode, done.stderr[-500:]))
    return done.returncode, done.stdout, done.stderr


def show(run):
    code, out, err = trainyard("show", run, "--json")
    if code != 0:
        raise Wrong("run %s cannot be shown: %s" % (run, err))
    return json.loads(out)


def check_run(run):
    """An ended run tells the truth."""
    told = show(run)
    if told["state"] == "Completed":
        log = trainyard("logs", run)[1]
        files = json.loads(trainyard("artifacts", "ls", run, "--json")[1])["files"]
        if "hello" not in log:
            raise Wrong("a completed run without its log: %r" % log)
        if not any(f["path"] == "outputs/o" for f in files) and not told["warnings"]:
            raise Wrong("a completed run without its outputs, and no warning")
    elif told["state"] == "Failed" and not (told["error"] or {}).get("message"):
        raise Wrong("a failed run without a reason")
    return told["state"]


def check_call(code, out, err):
    """A call that fails says why."""
    if code == 0 and "hello" not in out:
        raise Wrong("exit code 0 without the job's output: %r" % out)
    if code != 0 and not err.strip():
        raise Wrong("exit code %d without a word" % code)


def aftermath():
    """A daemon without faults takes everything up, and works."""
    trainyard("down")
    code, out, err = trainyard("run", "--", *JOB)
    if code != 0 or out != "hello\n":
        raise Wrong("the next run does not work: %d %r %s" % (code, out, err))
    end = time.monotonic() + SECONDS
    for run in trainyard("ps", "-a", "-q")[1].split():
        while show(run)["state"] not in ("Completed", "Failed", "Canceled"):
            if time.monotonic() > end:
                raise Wrong("run %s never ends: %s" % (run, show(run)["state"]))
            time.sleep(0.05)
        check_run(run)
    checks = {c["check"]: c for c in json.loads(trainyard("doctor", "--json")[1])["checks"]}
    if checks["event log"]["result"] != "ok":
        raise Wrong(checks["event log"]["text"])


def visited(where):
    """How often each point is visited, in all processes that would have the fault together: what is not cannot fail."""
    path = HOME + "-visits"
    where(path)
    trainyard("down")
    shutil.rmtree(HOME, ignore_errors=True)
    with open(path) as f:
        counts = collections.Counter(f.read().split())
    os.unlink(path)
    return counts


def in_the_service(fault):
    """Daemon and runners have the fault."""
    trainyard("up", fault=fault)
    check_call(*trainyard("run", "--", *JOB))
    aftermath()


def in_the_client(fault):
    trainyard("up")
    check_call(*trainyard("run", "--", *JOB, fault=fault))
    aftermath()


def main():
    bad = tried = 0
    visits = {where: visited(where) for where in (in_the_service, in_the_client)}
    for point in points(sys.argv[1]):
        for visit in VISITS.get(point, (1, 3)):
            fault = "%s:%d:%s" % (point, visit, "ENOMEM" if point.endswith("alloc") else ERRORS[tried // 2 % 2])
            for where in (in_the_service, in_the_client):
                if visits[where][point] < visit:
                    continue
                tried += 1
                try:
                    where(fault)
                except Wrong as e:
                    bad += 1
                    print("not ok - %s %s: %s" % (fault, where.__name__.replace("_", " "), e), flush=True)
                trainyard("down")
                shutil.rmtree(HOME, ignore_errors=True)
    print("%s - %d faults, each told or survived" % ("not ok" if bad else "ok", tried))
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
