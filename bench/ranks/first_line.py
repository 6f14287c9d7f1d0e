"""first_line.py hosts|slurm - seconds from a command to the first line of any rank, ours beside what people would type

Runs inside bench/ranks/hosts and bench/ranks/slurm, which make the machines. Clocks are this machine's: hosts and nodes are on it.
"""
import getpass
import json
import os
import re
import statistics
import subprocess
import sys
import time

PYTHON = "/usr/bin/python3"
REPEATS = max(5, int(os.environ.get("REPEATS", "7")))
SHAPES = ((1, 2), (2, 1), (4, 2))
SCRIPT = "import time; print(time.time(), flush=True)"
RANK = [PYTHON, "-c", SCRIPT]
LINE = re.compile(r"^(?:\[\d+\] )?(\d{9,}\.\d+)$", re.M)


def row(what, seconds, goal, against, **more):
    """A row of bench/run, with milliseconds; `all` keeps the spread in the results."""
    print(json.dumps(dict(more, what=what, value=seconds * 1e3, unit="ms", goal=goal, against=against)), flush=True)


def first(argv):
    """When the first rank's first line was written."""
    done = subprocess.run(argv, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    clocks = [float(clock) for clock in LINE.findall(done.stdout)]
    if done.returncode != 0 or not clocks:
        raise SystemExit("not ok - %s: exit code %d, %s" % (" ".join(argv[:6]), done.returncode, (done.stderr or done.stdout)[-2000:]))
    return min(clocks)


def took(argv):
    start = time.time()
    return first(argv) - start


def medians(**ways):
    """Each way once a turn, one after the other: the median of each, and all values. The first turn brings files and fills caches."""
    values = {name: [] for name in ways}
    for turn in range(REPEATS + 1):
        for name, way in ways.items():
            value = way()
            if turn:
                values[name].append(value)
    return {name: statistics.median(v) for name, v in values.items()}, values


def ours(target, nodes, procs):
    return ["trainyard", "run", "--target", target, "--no-snapshot", "--nodes", str(nodes), "--procs", str(procs), "--backend", "mpi", "--"] + RANK


def hosts():
    for nodes, procs in SHAPES:
        names = ["h%d" % (i + 1) for i in range(nodes)]
        mpirun = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-n", str(nodes * procs), "--host", ",".join("%s:%d" % (n, procs) for n in names)] + RANK
        ssh = ["ssh", "h1", "%s -c '%s'" % (PYTHON, SCRIPT)]
        mid, values = medians(ours=lambda: took(ours("lab", nodes, procs)), mpirun=lambda: took(mpirun), ssh=lambda: took(ssh))
        row("submit to first line on hosts, %d x %d ranks, over mpirun" % (nodes, procs), mid["ours"] - mid["mpirun"], 50,
            "ours %.0f ms, mpirun over ssh %.0f ms, ssh and the interpreter alone %.0f ms" % (mid["ours"] * 1e3, mid["mpirun"] * 1e3, mid["ssh"] * 1e3), all=values)


def began():
    with open(os.environ["BEGAN"]) as f:
        return float(f.read())


def wait_until(what, seconds, done):
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise SystemExit("not ok - %s within %d s" % (what, seconds))
        time.sleep(0.05)


def no_jobs():
    return not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout.strip()


def cold_ours(nodes, procs):
    """(from the batch script's first instruction, from the command) to the first line, in an allocation that is made for it."""
    wait_until("the cluster is free", 60, no_jobs)
    start = time.time()
    line = first(ours("cold", nodes, procs))
    return line - began(), line - start


def cold_sbatch(nodes, procs):
    """The same of a batch script that says srun."""
    wait_until("the cluster is free", 60, no_jobs)
    out = os.path.abspath("plain.out")
    script = "#!/bin/bash\necho $EPOCHREALTIME > '%s'\nexec srun %s -c '%s'\n" % (os.environ["BEGAN"], PYTHON, SCRIPT)
    start = time.time()
    subprocess.run(["sbatch", "--wait", "--nodes=%d" % nodes, "--ntasks-per-node=%d" % procs, "--output=" + out], input=script, text=True,
                   check=True, stdout=subprocess.DEVNULL)
    with open(out) as f:
        line = min(float(clock) for clock in LINE.findall(f.read()))
    return line - began(), line - start


def slurm_cold(nodes, procs):
    mid, values = medians(bare=lambda: (took(RANK), 0), ours=lambda: cold_ours(nodes, procs), sbatch=lambda: cold_sbatch(nodes, procs))
    mid = {name: [statistics.median(v[i] for v in values[name]) for i in range(2)] for name in values}
    row("Slurm, from the batch script to the first line, %d x %d, less the interpreter" % (nodes, procs), mid["ours"][0] - mid["bare"][0], 100,
        "interpreter %.0f ms; sbatch with srun in it, the same way %.0f ms; from the command on: ours %.0f ms, sbatch %.0f ms" % (
            mid["bare"][0] * 1e3, (mid["sbatch"][0] - mid["bare"][0]) * 1e3, mid["ours"][1] * 1e3, mid["sbatch"][1] * 1e3), all=values)


def allocation(nodes, procs):
    """A plain allocation that stays: its number."""
    said = subprocess.run(["salloc", "--no-shell", "--nodes=%d" % nodes, "--ntasks-per-node=%d" % procs], capture_output=True, text=True, check=True).stderr
    return re.search(r"allocation (\d+)", said).group(1)


def slurm_warm(nodes, procs):
    held = allocation(nodes, procs)
    srun = ["srun", "--jobid=" + held, "--overlap", "--nodes=%d" % nodes, "--ntasks-per-node=%d" % procs] + RANK
    mid, values = medians(bare=lambda: took(RANK), ours=lambda: took(ours("warm", nodes, procs)), srun=lambda: took(srun))
    row("Slurm, a warm allocation, submit to first line, %d x %d, less the interpreter" % (nodes, procs), mid["ours"] - mid["bare"], 100,
        "interpreter %.0f ms; srun in an allocation that is there, the same way %.0f ms" % (mid["bare"] * 1e3, (mid["srun"] - mid["bare"]) * 1e3), all=values)


def slurm():
    for nodes, procs in SHAPES:
        slurm_cold(nodes, procs)
    for nodes, procs in SHAPES:
        slurm_warm(nodes, procs)
        subprocess.run(["scancel", "--full", "-u", getpass.getuser()], check=True)  # what is kept has the shape of the last one
        wait_until("the cluster is free", 60, no_jobs)


if __name__ == "__main__":
    {"hosts": hosts, "slurm": slurm}[sys.argv[1]]()
