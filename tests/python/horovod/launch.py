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

import job

CASE_SECONDS = 60               # of one case on a busy machine
HERE = os.path.dirname(os.path.abspath(__file__))


def mpirun(ranks, argv, env=None, timeout=300):
    """Run Python with `argv` on each rank: (exit status, output).  Every process is gone afterwards."""
    command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-np", str(ranks), sys.executable]
    process = subprocess.Popen(command + list(argv), env=job.environment(**(env or {})),
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
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

    def __init__(self, folder, module, env=None):
        self._folder, self._module, self._env = str(folder), module, env
        self._jobs = {}

    def check(self, ranks, case):
        """AssertionError if the case failed on a rank."""
        cases = [name for n, name in pairs(self._module, [ranks])]
        if ranks not in self._jobs:
            folder = os.path.join(self._folder, "%s.%d" % (self._module, ranks))
            os.makedirs(folder)
            status, output = mpirun(ranks, [os.path.join(HERE, "launch.py"), folder, self._module] + cases, self._env)
            ends = [{} for _ in range(ranks)]
            for rank in range(ranks):
                path = os.path.join(folder, str(rank))
                if os.path.exists(path):
                    with open(path, encoding="utf-8") as file:
                        ends[rank] = dict(json.loads(line) for line in file)
            self._jobs[ranks] = status, output, ends
        status, output, ends = self._jobs[ranks]
        for rank, end in enumerate(ends):
            assert case in end, "rank %d has not finished %s: status %d\n%s" % (rank, case, status, output[-4000:])
            assert end[case] is None, "rank %d: %s" % (rank, end[case])
        if case == cases[-1]:
            assert status == 0, output[-4000:]


def names_in(module):
    """(CASES, ONLY, all functions) of a module of cases, without importing it: a test is no rank."""
    with open(os.path.join(HERE, module + ".py"), encoding="utf-8") as file:
        tree = ast.parse(file.read())
    given = {node.targets[0].id: ast.literal_eval(node.value) for node in tree.body
             if isinstance(node, ast.Assign) and node.targets[0].id in ("CASES", "ONLY")}
    return given["CASES"], given["ONLY"], [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]


def pairs(module, ranks):
    """(number of ranks, case) of all that there is to check."""
    cases, only, _ = names_in(module)
    return [(n, case) for n in ranks for case in cases if n in only.get(case, ranks)]


def _one(function):
    """None, or how it failed."""
    try:
        function()
    except BaseException:
        return traceback.format_exc()
    return None


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
            if end is not None:
                sys.stderr.write(end)
                sys.stderr.flush()
                os._exit(1)
    hvd.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3:])
