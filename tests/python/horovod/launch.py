"""Run functions on several ranks under mpirun, and say for each of them on each rank how it ended.

As a program: launch.py FOLDER MODULE CASE...  calls the functions of MODULE, one after the other, on this rank.  The
first that fails ends the job: the ranks that wait for this one would never come out.
"""
import ast
import faulthandler
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback

CASE_SECONDS = 60               # of one case on a busy machine
HERE = os.path.dirname(os.path.abspath(__file__))


class NotHere(Exception):
    """The case makes no sense with this number of ranks."""


def mpirun(ranks, argv, env=None, timeout=300):
    """Run Python with `argv` on each rank: (exit status, output).  Every process is gone afterwards."""
    everything = dict(os.environ, OMP_NUM_THREADS="1", OMPI_MCA_rmaps_base_oversubscribe="1", **(env or {}))
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "-np", str(ranks), sys.executable] + list(argv)
    process = subprocess.Popen(command, env=everything, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               start_new_session=True)
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        output, _ = process.communicate()
        return -1, output + "\nnot ready after %d s" % timeout


class Results:
    """How the cases of a module ended, each number of ranks in one job that is started when it is first asked for."""

    def __init__(self, folder, module, cases, env=None):
        self._folder, self._module, self._cases, self._env = str(folder), module, list(cases), env
        self._jobs = {}

    def check(self, ranks, case):
        """None, or the reason why the case is skipped; AssertionError if it failed on a rank."""
        if ranks not in self._jobs:
            folder = os.path.join(self._folder, "%s.%d" % (self._module, ranks))
            os.makedirs(folder)
            argv = [os.path.join(HERE, "launch.py"), folder, self._module] + self._cases
            status, output = mpirun(ranks, argv, self._env)
            ends = [{} for _ in range(ranks)]
            for rank in range(ranks):
                path = os.path.join(folder, str(rank))
                if os.path.exists(path):
                    with open(path, encoding="utf-8") as file:
                        ends[rank] = dict(json.loads(line) for line in file)
            self._jobs[ranks] = status, output, ends
        status, output, ends = self._jobs[ranks]
        for rank, end in enumerate(ends):
            how = end.get(case)
            assert how is not None, "rank %d has not finished %s: status %d\n%s" % (rank, case, status, output[-4000:])
            assert how["ok"], "rank %d: %s" % (rank, how["text"])
        if case == self._cases[-1]:
            assert status == 0, output[-4000:]
        return ends[0][case]["skipped"]


def cases_of(module):
    """(the names in CASES, all functions) of a module, without importing it: a test is no rank."""
    with open(os.path.join(HERE, module + ".py"), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    listed = next(ast.literal_eval(node.value) for node in tree.body
                  if isinstance(node, ast.Assign) and node.targets[0].id == "CASES")
    return listed, [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def _one(function):
    try:
        function()
    except NotHere as e:
        return {"ok": True, "skipped": str(e) or "not with this number of ranks"}
    except BaseException:
        return {"ok": False, "text": traceback.format_exc()}
    return {"ok": True, "skipped": None}


def main(folder, module, cases):
    import horovod.torch as hvd

    sys.path.insert(0, HERE)
    loaded = importlib.import_module(module)
    hvd.init()
    with open(os.path.join(folder, str(hvd.rank())), "w", encoding="utf-8") as file:
        for case in cases:
            faulthandler.dump_traceback_later(CASE_SECONDS, exit=True)
            end = _one(getattr(loaded, case))
            faulthandler.cancel_dump_traceback_later()
            file.write(json.dumps([case, end]) + "\n")
            file.flush()
            if not end["ok"]:
                sys.stderr.write(end["text"])
                sys.stderr.flush()
                os._exit(1)
    hvd.shutdown()


if __name__ == "__main__":
    import launch               # the one that cases import: its NotHere is not that of __main__

    launch.main(sys.argv[1], sys.argv[2], sys.argv[3:])
