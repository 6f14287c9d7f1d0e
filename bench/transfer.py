"""Transfers to and from an object store beside curl and rclone: 1 GB in one file, and 10,000 small files, up and down, on one local server.

The server is bench/data/s3d.c: those of the tests take longer for a file than any of the clients. All use as many requests at once; rclone is told to leave out what it can (its look at
the bucket, what is there, its HEAD after each upload). curl compares nothing and hashes nothing. Each figure is the median of
TRANSFERS, the three one after another in each round.
"""
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MOVER = os.path.join(TOP, "build", "bench", "data", "mover")
SERVER = os.path.join(TOP, "build", "bench", "data", "s3d")
TRANSFERS = int(os.environ.get("TRANSFERS", "3"))
PARALLEL = 16
LARGE, SMALL, SMALL_BYTES = 1 << 30, 10000, 4096

sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
import s3_servers  # noqa: E402
import transfer_azure  # noqa: E402

KEY, SECRET = "BENCHKEY", "benchsecret"


class Run:
    """What one command took: seconds of the clock, of a CPU, and its memory at most (MB)."""

    def __init__(self, argv, env):
        start = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            p = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=env)
            self.memory = 0
            while True:
                try:
                    with open("/proc/%d/status" % p.pid) as f:
                        self.memory = max([self.memory] + [int(line.split()[1]) / 1024 for line in f if line.startswith("VmHWM")])
                except OSError:
                    pass
                pid, status, use = os.wait4(p.pid, os.WNOHANG)
                if pid:
                    break
                time.sleep(0.01)
            p.returncode = os.waitstatus_to_exitcode(status)
            self.seconds = time.perf_counter() - start
            self.cpu = use.ru_utime + use.ru_stime
            if p.returncode != 0:
                said.seek(0)
                raise RuntimeError("%s: %s" % (argv[0], said.read()[-500:]))


class Setting:
    def __init__(self, top):
        self.top = top
        self.server = None
        self.fresh()
        self.large, self.small = os.path.join(top, "large"), os.path.join(top, "small")
        os.makedirs(self.large)
        os.makedirs(self.small)
        block = os.urandom(1 << 20)
        with open(os.path.join(self.large, "f"), "wb") as f:
            for i in range(LARGE >> 20):
                f.write(i.to_bytes(8, "big") + block[8:])
        for i in range(SMALL):
            with open(os.path.join(self.small, "f%05d" % i), "wb") as f:
                f.write(i.to_bytes(8, "big") + block[8:SMALL_BYTES])

    def fresh(self):
        """A server that has nothing yet."""
        self.stop()
        os.makedirs(os.path.join(self.top, "store"))
        self.server = subprocess.Popen([SERVER, os.path.join(self.top, "store")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = "http://127.0.0.1:%d" % int(self.server.stdout.readline())
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("AWS_") and not k.lower().endswith("_proxy")}
        self.env.update(RCLONE_CONFIG=os.path.join(self.top, "none.conf"), RCLONE_CONFIG_B_TYPE="s3", RCLONE_CONFIG_B_PROVIDER="Other",
                        RCLONE_CONFIG_B_ENDPOINT=self.url, RCLONE_CONFIG_B_ACCESS_KEY_ID=KEY,
                        RCLONE_CONFIG_B_SECRET_ACCESS_KEY=SECRET, RCLONE_CONFIG_B_REGION="us-east-1")
        self.access = s3_servers.write_access(os.path.join(self.top, "access.json"), self.url, "tbk", KEY, SECRET)

    def stop(self):
        if self.server:
            self.server.stdin.close()
            self.server.wait()
        shutil.rmtree(os.path.join(self.top, "store"), ignore_errors=True)

    def curl_list(self, pairs, up):
        """A configuration of curl for many transfers at once."""
        where = os.path.join(self.top, "curl.conf")
        with open(where, "w") as f:
            for i, (local, url) in enumerate(pairs):
                f.write(("next\n" if i else "") + 'url = "%s"\n%s = "%s"\naws-sigv4 = "aws:amz:us-east-1:s3"\nuser = "%s:%s"\n'
                        'header = "x-amz-content-sha256: UNSIGNED-PAYLOAD"\n'
                        % (url, "upload-file" if up else "output", local, KEY, SECRET))
        return ["curl", "-s", "-f", "--parallel", "--parallel-immediate", "--parallel-max", str(PARALLEL), "-K", where]

    def commands(self, folder, names, up):
        """(who, argv) of the three; each has a name of its own in the bucket."""
        base = self.url + "/tbk/"
        local = folder if up else os.path.join(self.top, "down")

        def pairs(who):
            return [(os.path.join(local + ("" if up else "-" + who), n), base + who + "/" + n) for n in names]
        rclone = ["rclone", "copy", "--transfers", str(PARALLEL), "--checkers", str(PARALLEL), "--s3-upload-concurrency", str(PARALLEL),
                  "--s3-chunk-size", "16M", "--multi-thread-streams", str(PARALLEL), "--s3-no-check-bucket", "--s3-no-head",
                  "--no-check-dest", "--ignore-times"]
        return [("ours", [MOVER, self.access, "up" if up else "down", folder if up else local + "-ours", "ours", "--quiet",
                          "--parallel", str(PARALLEL)]),
                ("curl", self.curl_list(pairs("curl"), up)),
                ("rclone", rclone + ([folder, "b:tbk/rclone"] if up else ["b:tbk/rclone", local + "-rclone"]))]

    def measure(self, folder, up):
        names = sorted(os.listdir(folder))
        runs = {"ours": [], "curl": [], "rclone": []}
        for _ in range(TRANSFERS):
            if up:
                self.fresh()
            for who, argv in self.commands(folder, names, up):
                if not up:
                    shutil.rmtree(os.path.join(self.top, "down-" + who), ignore_errors=True)
                    os.makedirs(os.path.join(self.top, "down-" + who))
                runs[who].append(Run(argv, self.env))
                if not up and len(os.listdir(os.path.join(self.top, "down-" + who))) != len(names):
                    raise RuntimeError(who + " has not brought everything")
        for who in runs:
            shutil.rmtree(os.path.join(self.top, "down-" + who), ignore_errors=True)
        return runs


def median(runs, what):
    return statistics.median(getattr(r, what) for r in runs)


def rows(row, more):
    if not shutil.which("rclone") or not shutil.which("curl"):
        print("bench: curl or rclone is missing: the rows of transfers are left out")
        return
    # In memory where there is room: what is compared are clients, not how a disk writes back.
    roomy = os.path.isdir("/dev/shm") and shutil.disk_usage("/dev/shm").free > 8 << 30
    top = tempfile.mkdtemp(prefix="ty-bench-data.", dir="/dev/shm" if roomy else None)
    setting = None
    try:
        setting = Setting(top)
        memory = 0
        for what, folder, amount, unit in (("1 GB in one file", setting.large, LARGE / 1e6, "MB/s"),
                                           ("10,000 files of 4 kB", setting.small, SMALL, "files/s")):
            for up in (True, False):
                runs = setting.measure(folder, up)
                speed = {who: amount / median(runs[who], "seconds") for who in runs}
                memory = max(memory, max(r.memory for r in runs["ours"]))
                for who in ("curl", "rclone"):
                    more("%s %s, over %s" % (what, "up" if up else "down", who), speed["ours"] / speed[who], "x", 0.9,
                         "%.0f %s, %s %.0f; CPU %.2f s, %s %.2f s; memory %.0f MB, %s %.0f MB" % (
                             speed["ours"], unit, who, speed[who], median(runs["ours"], "cpu"), who, median(runs[who], "cpu"),
                             median(runs["ours"], "memory"), who, median(runs[who], "memory")))
        row("memory of a transfer, at most", memory, "MB", 64, "")
    finally:
        if setting:
            setting.stop()
        shutil.rmtree(top, ignore_errors=True)
    transfer_azure.rows(row, more, Run)
