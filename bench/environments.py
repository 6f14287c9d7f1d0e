"""Environments: one that is known, one built over Debian's interpreter with one pure-Python wheel, and one that shares its packages.

The index is a folder of wheels that the benchmark makes, so that no network is measured. The anchor is what a person would do:
`python3 -m venv` and `pip install`.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
GET = os.path.join(TOP, "build", "bench", "env", "get")
OURS = os.path.join(TOP, "build", "python")
PYTHON = "/usr/bin/python3"
BUILDS = int(os.environ.get("BUILDS", "5"))

sys.path.insert(0, os.path.join(TOP, "tests", "unit", "env"))
import index  # noqa: E402


class Bench:
    """A folder of wheels, and caches."""

    def __init__(self, top):
        self.top, self.flat = top, os.path.join(top, "flat")
        os.makedirs(self.flat)
        index.wheel(self.flat, "ty-one", "1.0", (), {"ty_one/part%d.py" % i: "X = %d\n" % i for i in range(200)})
        index.wheel(self.flat, "ty-two", "1.0")
        self.env = {"PATH": "/usr/bin:/bin", "HOME": top, "PIP_CONFIG_FILE": "/dev/null", "PIP_NO_INDEX": "1", "LANG": "C.UTF-8"}

    def get(self, cache, packages, times=1):
        """(milliseconds of each time, prefix)"""
        spec = json.dumps({"pip": {"packages": packages, "find_links": [self.flat]}})
        out = subprocess.run([GET, os.path.join(self.top, cache), OURS, str(times), spec], env=self.env, check=True, capture_output=True, text=True).stdout
        *took, prefix = out.split("\n")[:-1]
        return [float(t) for t in took], prefix

    def by_hand(self):
        """Seconds of a venv and pip in it."""
        folder = os.path.join(self.top, "hand")
        start = time.perf_counter()
        subprocess.run([PYTHON, "-m", "venv", "--system-site-packages", folder], env=self.env, check=True, stdout=subprocess.DEVNULL)
        subprocess.run([folder + "/bin/python3", "-m", "pip", "install", "-q", "--find-links", self.flat, "ty-one"], env=self.env, check=True)
        took = time.perf_counter() - start
        shutil.rmtree(folder)
        return took


def copied(prefix):
    """Files of site-packages that no other prefix has, and all."""
    own = everything = 0
    for folder, _, files in os.walk(os.path.join(prefix, "lib")):
        for name in files:
            everything += 1
            own += os.lstat(os.path.join(folder, name)).st_nlink == 1
    return own, everything


def rows(row):
    """Add the rows; nothing where Debian's Python has no pip."""
    if subprocess.run([PYTHON, "-c", "import pip, venv"], stderr=subprocess.DEVNULL).returncode:
        print("bench: %s has no pip or venv: the rows of environments are left out" % PYTHON)
        return
    top = tempfile.mkdtemp(prefix="ty-bench-env.")
    try:
        bench = Bench(top)
        first, hand, second = [], [], []
        for i in range(BUILDS):
            first.append(bench.get("cache%d" % i, ["ty-one"])[0][0] / 1e3)
            took, prefix = bench.get("cache%d" % i, ["ty-one", "ty-two"])
            second.append(took[0] / 1e3)
            hand.append(bench.by_hand())
        none = statistics.median(of_nothing(bench))
        known = statistics.median(bench.get("cache0", ["ty-one"], 200)[0])
        row("environment, known, over none", known - none, "ms", 5, "none %.3f ms" % none)
        row("environment, first build with one wheel", statistics.median(first), "s", 3, "venv and pip by hand %.2f s" % statistics.median(hand))
        own, everything = copied(prefix)
        row("environment, second one with the same package", statistics.median(second), "s", None, "%d of %d files are copies" % (own, everything))
    finally:
        shutil.rmtree(top, ignore_errors=True)


def of_nothing(bench):
    """Milliseconds of ty_env_get where nothing is asked for."""
    out = subprocess.run([GET, os.path.join(bench.top, "none"), OURS, "200", "{}"], env=bench.env, check=True, capture_output=True, text=True).stdout
    return [float(t) for t in out.split("\n")[:200]]
