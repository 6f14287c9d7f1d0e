"""bench/collectives.py - the table "Collectives": the engine beside Open MPI and torch.distributed, in one run.

rows(row, more) adds the figures to the table of bench/run; `bench/run collectives` prints them alone.
"""
import importlib.util
import json
import math
import os
import re
import statistics
import subprocess

TOP = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BUILD = os.path.join(TOP, "build")
PYTHON = "/usr/bin/python3"
SECONDS = 300   # for one program
DEATHS = 20


def mpirun(ranks, *argv, text=None, keep_going=False):
    """The JSON lines that a program on so many ranks prints."""
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks)]
    if ranks > (os.cpu_count() or 1):
        command += ["--mca", "mpi_yield_when_idle", "1"]
    if keep_going:
        command += ["--mca", "orte_abort_on_non_zero_status", "0", "--enable-recovery"]
    env = dict(os.environ, PYTHONPATH=BUILD + "/python", OMP_NUM_THREADS="1", OMPI_ALLOW_RUN_AS_ROOT="1",
               OMPI_ALLOW_RUN_AS_ROOT_CONFIRM="1")
    done = subprocess.run(command + list(argv), env=env, input=text, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          timeout=SECONDS)
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise RuntimeError("%s: %s" % (" ".join(argv), done.stderr.strip()[-2000:]))
    return lines


def geometric_mean(values):
    return math.exp(statistics.fmean(math.log(v) for v in values))


def resnet_counts():
    spec = importlib.util.spec_from_file_location("exchange", TOP + "/bench/horovod/exchange.py")
    source = open(spec.origin).read()
    space = {}
    exec(source[source.index("def shapes"):source.index("class Bag")], space)  # without torch, which this interpreter may lack
    return [math.prod(shape) for shape in space["shapes"]()]


def allreduce(row, more):
    lines = mpirun(2, BUILD + "/bench/coll/allreduce_bench", "15")
    where = lines.pop()
    probe = "a line passes in %.0f ns before, %.0f after" % (where["probe_before_ns"], where["probe_after_ns"])
    by = {line["bytes"]: line for line in lines}
    for line in lines:
        print("  %9d bytes: Open MPI %10.2f us, arena %9.2f, ordinary %9.2f, local work alone %9.2f" %
              (line["bytes"], line["mpi"], line["arena"], line["private"], line["limit"]))
    print("  " + probe)
    arena = {b: v["mpi"] / v["arena"] for b, v in by.items() if 16384 <= b}
    private = {b: v["mpi"] / v["private"] for b, v in by.items() if 4096 <= b}
    limit = {b: v["limit"] / v["arena"] for b, v in by.items() if b >= 16 << 20}
    for name, ratios, least, mean in (("in the arena", arena, 5, 8), ("of ordinary tensors", private, 1.3, 2.5)):
        worst = min(ratios, key=ratios.get)
        more("allreduce %s, the worst size" % name, ratios[worst], "x Open MPI", least, "at %d bytes; %s" % (worst, probe))
        more("allreduce %s, geometric mean" % name, geometric_mean(ratios.values()), "x Open MPI", mean, probe)
    worst = min(limit, key=limit.get)
    more("allreduce in the arena against local work alone", limit[worst] * 100, "%", 70, "at %d bytes" % worst)
    row("allreduce of 4 bytes from C, against Open MPI", by[4]["private"] / by[4]["mpi"], "x Open MPI", 1,
        "%.2f us, Open MPI %.2f us" % (by[4]["private"], by[4]["mpi"]))
    four = {line["bytes"]: line for line in mpirun(4, BUILD + "/bench/coll/allreduce_bench", "15", "65536") if "bytes" in line}
    row("allreduce of 64 KiB, 4 ranks on %d cores" % os.cpu_count(), four[65536]["arena"], "us", 15,
        "Open MPI, yielding, %.1f us" % four[65536]["mpi"])


PYTHON_CALL = """
import json, time, torch, horovod.torch as hvd
hvd.init()
x = torch.zeros(1)
times = []
for k in range(30):
    hvd.barrier()
    start = time.perf_counter()
    for _ in range(100):
        hvd.allreduce_(x, name='x')
    times.append((time.perf_counter() - start) / 100)
if hvd.rank() == 0:
    print(json.dumps({'us': sorted(times)[15] * 1e6}))
hvd.shutdown()
"""
GLOO_CALL = """
import json, os, time, torch
import torch.distributed as dist
os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT='29519')
dist.init_process_group('gloo', rank=int(os.environ['OMPI_COMM_WORLD_RANK']), world_size=2)
x = torch.zeros(1)
times = []
for k in range(30):
    start = time.perf_counter()
    for _ in range(100):
        dist.all_reduce(x)
    times.append((time.perf_counter() - start) / 100)
if dist.get_rank() == 0:
    print(json.dumps({'us': sorted(times)[15] * 1e6}))
"""


def python_side(row, more):
    ours = mpirun(2, PYTHON, "-c", PYTHON_CALL)[0]["us"]
    gloo = mpirun(2, PYTHON, "-c", GLOO_CALL)[0]["us"]
    row("allreduce of 4 bytes through Python", ours, "us", 10, "torch.distributed gloo %.0f us" % gloo)
    counts = " ".join(map(str, resnet_counts()))
    script = TOP + "/bench/horovod/exchange.py"
    mpi = mpirun(2, BUILD + "/bench/coll/life_bench", "exchange", text=counts)[0]
    hvd, ddp, gloo = (mpirun(2, PYTHON, script, way)[0] for way in ("horovod", "ddp", "gloo"))
    mine = hvd["exchange_ms"]
    row("gradient exchange of ResNet-50", mine, "ms", 8, "zero_grad %.1f ms; DDP's %.1f ms" % (hvd["zero_grad_ms"], ddp["zero_grad_ms"]))
    more("gradient exchange of ResNet-50, against MPI", mpi["each_ms"] / mine, "x Open MPI", 2.5,
         "Open MPI %.1f ms tensor by tensor, %.1f ms as one" % (mpi["each_ms"], mpi["flat_ms"]))
    more("gradient exchange of ResNet-50, against DDP", ddp["exchange_ms"] / mine, "x DDP gloo", 12,
         "DDP %.1f ms; gloo tensor by tensor %.1f ms" % (ddp["exchange_ms"], gloo["exchange_ms"]))
    script = TOP + "/bench/horovod/step.py"
    steps = {way: statistics.median(mpirun(2, PYTHON, script, way)[0]["step_ms"] for _ in range(3)) for way in ("alone", "horovod", "ddp")}
    row("training step, 25 M parameters, against two processes alone", steps["horovod"] / steps["alone"], "x alone", 1.10,
        "alone %.0f ms, ours %.0f ms, DDP gloo %.0f ms" % (steps["alone"], steps["horovod"], steps["ddp"]))


def life(row, more):
    program = BUILD + "/bench/coll/life_bench"
    idle = mpirun(2, program, "idle")[0]
    row("idle after init", idle["idle_cores"] * 100, "% of a core", 0.5, "0.00 core")
    row("waiting for a late rank", idle["waiting_cores"] * 100, "% of a core", 1, "")
    seen = []
    for k in range(DEATHS):
        lines = mpirun(2, program, "die", str((16, 512, 2048)[k % 3]), keep_going=True)
        killed = next(line["killed_us"] for line in lines if "killed_us" in line)
        seen += [line["seen_us"] - killed for line in lines if "seen_us" in line]
    seen.sort()
    row("kill -9 of a rank until the others' error, p99", seen[min(len(seen) - 1, int(len(seen) * 0.99))] / 1e3, "ms", 2,
        "median %.2f ms; the victims had 16 to 2,048 MB" % (statistics.median(seen) / 1e3))
    memory = mpirun(2, program, "memory", "1024")[0]
    row("memory of a rank after init, PSS", memory["started_mb"], "MB", None, "")
    row("memory of a rank beyond 1 GB of gradients", max(0.0, memory["full_mb"] - memory["gradients_mb"]), "MB", None,
        "%.0f MB of gradients, %.0f MB PSS" % (memory["gradients_mb"], memory["full_mb"]))


def reductions(row, more):
    text = subprocess.run([BUILD + "/bench/coll/reduce_bench", "16"], stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=True).stdout
    for name, least in (("float16", 40), ("bfloat16", 6)):
        line = next(t for t in text.splitlines() if re.match(name + r" +d \+= s", t))
        figures = re.findall(r"([\d.]+)x?", line[len(name) + 7:])
        more("%s reduction against scalar, bitwise equal to it" % name, float(figures[-1]), "x scalar", least,
             "%s GB/s, scalar %s" % (figures[-2], figures[0]))


def model(row, more):
    done = subprocess.run([BUILD + "/bench/sim/sim", "--json"], stdout=subprocess.PIPE, text=True, timeout=SECONDS)
    for line in done.stdout.splitlines() if done.returncode == 0 else []:
        if line.startswith("{"):
            figure = json.loads(line)
            more("modelled: %s" % figure["what"], figure["value"], figure["unit"], figure["goal"], figure["against"])


def rows(row, more):
    for part in (allreduce, python_side, life, reductions, model):
        part(row, more)
