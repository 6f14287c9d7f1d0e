"""Running a worker script as a job of several ranks."""
import os
import subprocess
import sys

WORKERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "workers")
SECONDS = 240


def environment(**more):
    """That of this process, without a launcher's or an earlier job's variables."""
    env = {k: v for k, v in os.environ.items()
           if not k.startswith(("HOROVOD_", "OMPI_", "PMIX_", "PMI_", "SLURM_", "TRAINYARD_COLL_"))}
    env.update(OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")
    env.update(more)
    return env


def mpirun(ranks, worker, *args, **env):
    """The finished process of `mpirun -np ranks python workers/<worker>.py args`; it must have succeeded."""
    done = run(ranks, worker, *args, **env)
    assert done.returncode == 0, done.stdout[-8000:]
    return done


def run(ranks, worker, *args, **env):
    """As mpirun(), whatever its exit code."""
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), "--tag-output",
               sys.executable, os.path.join(WORKERS, worker + ".py")] + list(args)
    return subprocess.run(command, env=environment(**env), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, timeout=SECONDS)
