"""Transfers to and from Azure Blob beside curl and rclone, on Azurite: 256 MB in one file, and 1,000 small files, up and down.

Azurite is one thread of Node and gives the pace: what stands here is that nothing is lost to the others on it, and what memory it takes; how quick the
mover is by itself, transfer.py tells. All come by a SAS of the container, because rclone 1.60 has no other way to an emulator's addresses; curl sends one request for each
file, which Azurite likes best.
"""
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
MOVER = os.path.join(TOP, "build", "bench", "data", "mover")
ROUNDS = int(os.environ.get("TRANSFERS", "3"))
PARALLEL, CONTAINER = 16, "bench"
LARGE, SMALL, SMALL_BYTES = 256 << 20, 1000, 4096

sys.path.insert(0, os.path.join(TOP, "tests", "e2e"))
import objects_azure  # noqa: E402


class Azurite:
    """One that is ended with its standard input; None of what is here when it cannot be had."""

    def __init__(self):
        self.process = subprocess.Popen(["bash", os.path.join(TOP, "tests", "e2e", "objects.lib.sh"), "azurite"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(self.process.stderr.read().strip())
        self.told = json.loads(line)
        os.environ.update(AZ_URL=self.told["url"], AZ_ACCOUNT=self.told["account"], AZ_KEY=self.told["key"])
        assert objects_azure.call("PUT", "/" + CONTAINER, "restype=container")[0] == 201
        self.sas = objects_azure.sas(CONTAINER)
        self.url = self.told["url"] + "/" + CONTAINER

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def make_files(top):
    large, small, block = os.path.join(top, "large"), os.path.join(top, "small"), os.urandom(1 << 20)
    os.mkdir(large)
    os.mkdir(small)
    with open(os.path.join(large, "f"), "wb") as f:
        for i in range(LARGE >> 20):
            f.write(i.to_bytes(8, "big") + block[8:])
    for i in range(SMALL):
        with open(os.path.join(small, "f%04d" % i), "wb") as f:
            f.write(i.to_bytes(8, "big") + block[8:SMALL_BYTES])
    return large, small


def curl(top, azurite, pairs, up):
    where = os.path.join(top, "curl.conf")
    with open(where, "w") as f:
        for i, (local, name) in enumerate(pairs):
            f.write(("next\n" if i else "") + 'url = "%s/%s?%s"\n%s = "%s"\nheader = "x-ms-version: %s"\n%s' % (
                azurite.url, name, azurite.sas, "upload-file" if up else "output", local, objects_azure.VERSION,
                'header = "x-ms-blob-type: BlockBlob"\nheader = "Expect:"\n' if up else ""))
    return ["curl", "-s", "-f", "--parallel", "--parallel-immediate", "--parallel-max", str(PARALLEL), "-K", where]


def commands(top, azurite, access, folder, number, up):
    names, down = sorted(os.listdir(folder)), os.path.join(top, "down")
    rclone = ["rclone", "copy", "--transfers", str(PARALLEL), "--checkers", str(PARALLEL), "--azureblob-upload-concurrency", str(PARALLEL),
              "--azureblob-chunk-size", "8M", "--multi-thread-streams", str(PARALLEL), "--no-check-dest", "--ignore-times", "--retries", "1"]
    remote = "b:%s/%d-rclone" % (CONTAINER, number)
    return [("ours", [MOVER, access, "up" if up else "down", folder if up else down + "-ours", "%d-ours" % number, "--quiet"]),
            ("curl", curl(top, azurite, [(os.path.join(folder if up else down + "-curl", n), "%d-curl/%s" % (number, n)) for n in names], up)),
            ("rclone", rclone + ([folder, remote] if up else [remote, down + "-rclone"]))]


def measure(top, azurite, access, env, folder, first, up, run):
    runs = {"ours": [], "curl": [], "rclone": []}
    for number in range(first, first + ROUNDS):
        for who, argv in commands(top, azurite, access, folder, number, up):
            here = os.path.join(top, "down-" + who)
            shutil.rmtree(here, ignore_errors=True)
            os.mkdir(here)
            runs[who].append(run(argv, env))
            if not up and len(os.listdir(here)) != len(os.listdir(folder)):
                raise RuntimeError(who + " has not brought everything")
    return runs


def rows(row, more, run):
    """`run` is transfer.Run."""
    top = tempfile.mkdtemp(prefix="ty-bench-azure.")
    azurite = None
    try:
        azurite = Azurite()
        access = os.path.join(top, "access.json")
        with open(access, "w") as f:
            json.dump({"name": "d", "kind": "azureblob", "config": {"account_name": azurite.told["account"], "container_name": CONTAINER,
                                                                    "endpoint": azurite.told["endpoint"], "sas_token": azurite.sas}}, f)
        env = {k: v for k, v in os.environ.items() if not k.startswith(("AWS_", "AZ")) and not k.lower().endswith("_proxy")}
        env.update(RCLONE_CONFIG=os.path.join(top, "none.conf"), RCLONE_CONFIG_B_TYPE="azureblob",
                   RCLONE_CONFIG_B_SAS_URL="%s?%s" % (azurite.url, azurite.sas))
        large, small = make_files(top)
        for what, folder, amount, unit, first in (("256 MB in one file", large, LARGE / 1e6, "MB/s", 0),
                                                  ("1,000 files of 4 kB", small, SMALL, "files/s", ROUNDS)):
            for up in (True, False):
                runs = measure(top, azurite, access, env, folder, first, up, run)
                speed = {who: amount / statistics.median(r.seconds for r in runs[who]) for who in runs}
                for who in ("curl", "rclone"):
                    more("Azurite: %s %s, over %s" % (what, "up" if up else "down", who), speed["ours"] / speed[who], "x", 0.9,
                         "%.0f %s, %s %.0f; CPU %.2f s, %s %.2f s; memory %.0f MB" % (
                             speed["ours"], unit, who, speed[who], statistics.median(r.cpu for r in runs["ours"]), who,
                             statistics.median(r.cpu for r in runs[who]), max(r.memory for r in runs["ours"])))
    except RuntimeError as e:
        print("bench: the rows of Azure Blob are left out: %s" % e)
    finally:
        if azurite:
            azurite.end()
        shutil.rmtree(top, ignore_errors=True)
