"""distributed.py - rows of bench/run about jobs of several processes and machines

Parts that need machines which cannot be made here (namespaces, Slurm) say so, and are left out by name.
"""
import datetime
import json
import os
import statistics
import subprocess
import sys

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build")
PYTHON = "/usr/bin/python3"
REPEATS = max(5, int(os.environ.get("REPEATS", "7")))


def script(*argv, **env):
    """The lines of JSON that a script of bench/ prints; what it leaves out or fails at is said."""
    done = subprocess.run([os.path.join(TOP, argv[0])] + list(argv[1:]), env=dict(os.environ, BUILD=BUILD, **env), capture_output=True, text=True)
    for line in (done.stdout + done.stderr).splitlines():
        if "# SKIP" in line:
            print("left out: " + line.split("- ", 1)[1].replace(" # SKIP", ":"))
        elif not line.startswith(("{", "ok ")):
            print("%s: %s" % (argv[0], line), file=sys.stderr)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def machines(row, more):
    for kind in ("hosts", "slurm"):
        for r in script("bench/ranks/" + kind, REPEATS=str(REPEATS)):
            row(r["what"], r["value"], r["unit"], r["goal"], r["against"], all=r["all"])


def queue(row, more):
    for r in script("bench/queue", "--json"):
        row("scheduling cycle, 500 queued runs on ten targets", r["placing_ms"], "ms", 10, "CPU of the daemon; with a list of them %.1f ms" % r["listing_ms"])
        row("daemon with 500 queued runs, PSS", r["pss_mb"], "MB", 50, "")


def nodes(row, more):
    for r in script("build/bench/link/nodes", "1000", "10"):
        row("1,000 nodes of one job, CPU of their leader", r["cpu_percent"], "% of a core", 10, "heartbeats; all had come after %.1f s" % r["ready_s"])
    for r, what in zip(script("bench/fleet"), ("heartbeats", "heartbeats, and 1,000 system metrics a second")):
        row("%d hosts with a run each, CPU of the daemon: %s" % (r["nodes"], what), r["cpu_percent"], "% of a core", 10,
            "PSS %.0f MB; all ran %.0f s after the first was submitted, for %.1f s of the daemon's CPU" % (r["pss_mb"], r["ready_s"], r["ready_cpu_s"]))


STEPS, BATCH = 26, 16  # the example's own batch; the loss is logged at steps 1 and 26


def charlm_start(env, procs, threads):
    argv = [BUILD + "/trainyard", "submit", "-q", "--dir", TOP + "/examples/charlm", "--procs", str(procs), "--env", "OMP_NUM_THREADS=%d" % threads, "--",
            PYTHON, "distributed.py", "--data_dir", TOP + "/docs/spec", "--steps", str(STEPS), "--seconds", "3600", "--batch", str(BATCH)]
    return subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout.strip()


def charlm_rate(env, run):
    """Samples per second of a run on one process, from the times of its first and last logged loss."""
    subprocess.run([BUILD + "/trainyard", "wait", run], env=env, check=True, capture_output=True)
    out = subprocess.run([BUILD + "/trainyard", "api", "runs/%s/metrics?name=loss&form=rows" % run], env=env, check=True, capture_output=True, text=True).stdout
    at = [datetime.datetime.fromisoformat(r["at"].rstrip("Z")) for r in json.loads(out)["rows"]]
    return (STEPS - 1) * BATCH / (max(at) - min(at)).total_seconds()


def scaling(row, more, env):
    """charlm on one process and on two, each with as many samples a step; two runs at once that know nothing of each other are the limit."""
    values = {"one": [], "both threads": [], "two": [], "apart": []}
    for _ in range(5):
        values["one"].append(charlm_rate(env, charlm_start(env, 1, 1)))
        values["both threads"].append(charlm_rate(env, charlm_start(env, 1, 2)))
        values["two"].append(2 * charlm_rate(env, charlm_start(env, 2, 1)))
        values["apart"].append(sum(charlm_rate(env, run) for run in [charlm_start(env, 1, 1) for _ in range(2)]))
    mid = {name: statistics.median(v) for name, v in values.items()}
    more("charlm on 2 ranks, against one rank of one thread", mid["two"] / mid["one"], "x", None,
         "%.0f and %.0f samples/s on %d cores; two runs that share nothing %.2f x; one rank with torch's own 2 threads %.2f x" % (
             mid["two"], mid["one"], os.cpu_count(), mid["apart"] / mid["one"], mid["both threads"] / mid["one"]), all=values)
    more("charlm on 2 ranks, against two runs that share nothing", 100 * mid["two"] / mid["apart"], "%", 90, "the limit of what two ranks can do here")


def rows(row, more, env):
    os.makedirs(env["HOME"], exist_ok=True)
    for part in (machines, queue, nodes):
        part(row, more)
    try:
        subprocess.run([BUILD + "/trainyard", "up"], env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if subprocess.run([PYTHON, "-c", "import torch"], capture_output=True).returncode == 0:
            scaling(row, more, env)
        else:
            print("left out: scaling of charlm: %s has no torch" % PYTHON)
    finally:
        subprocess.run([BUILD + "/trainyard", "down"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
