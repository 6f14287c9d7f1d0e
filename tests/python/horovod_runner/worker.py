"""An elastic worker without torch: worker.py FOLDER STEPS [WORD ...]

It plays the engine: in each step the ranks of a world meet at files in FOLDER, and a rank that finds that another has died
(its process is gone) does what hvd.elastic.run does after HorovodInternalError.  Each step needs the file FOLDER/go.N of the
test, so that nothing is left to luck.
"""
import os
import signal
import sys
import threading
import time

from horovod.runner.elastic.client import WorkerClient

DEATH = "a rank has died"
LIMIT_S = 60


def say(*words):
    print(*words, flush=True)


class Worker:
    def __init__(self, folder, words):
        self.folder, self.words = folder, words
        self.client = WorkerClient.from_env()
        assert self.client is WorkerClient.from_env()
        self.updated = threading.Event()
        self.client.on_hosts_updated = self.hosts_updated
        self.step = 0

    def hosts_updated(self, timestamp, added_only):
        say("told", "added" if added_only else "removed")
        self.updated.set()

    def path(self, *words):
        return os.path.join(self.folder, ".".join(map(str, words)))

    def put(self, name, text):
        with open(self.path("new", os.getpid()), "w") as file:
            file.write(text)
        os.rename(self.path("new", os.getpid()), self.path(name))

    def get(self, name, alive=()):
        """Wait for a file; None when a process of `alive` is gone."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                with open(self.path(name)) as file:
                    return file.read()
            except FileNotFoundError:
                pass
            if time.monotonic() > deadline:
                say("nothing at", name)
                os._exit(99)
            for pid in alive:
                try:
                    with open("/proc/%d/stat" % pid) as file:
                        if file.read().rpartition(")")[2].split()[0] == "Z":
                            return None
                except OSError:
                    return None
            time.sleep(0.005)

    def enter(self):
        """Into a new world, and to the step of its rank 0."""
        self.client.next_world(LIMIT_S)
        self.updated.clear()
        self.rank, self.size = int(os.environ["HOROVOD_RANK"]), int(os.environ["HOROVOD_SIZE"])
        self.key = os.environ["TRAINYARD_COLL_SECRET"][:8]
        self.put("%s.pid.%d" % (self.key, self.rank), str(os.getpid()))
        self.pids = [int(self.get("%s.pid.%d" % (self.key, r))) for r in range(self.size)]
        if self.rank == 0:
            self.put("%s.begin" % self.key, str(self.step))
        self.step = int(self.get("%s.begin" % self.key))
        say("world", self.rank, "of", self.size, "local", os.environ["HOROVOD_LOCAL_RANK"], "step", self.step)

    def meet(self):
        """One step with all ranks: whether somebody wants to change the world, or DEATH."""
        if self.get("go.%d" % self.step, self.pids) is None:
            return DEATH
        for word in self.words:
            what, _, where = word.partition("@")
            if where == "%d.%d" % (self.step, self.rank) and not os.path.exists(self.path("did", word)):
                self.put("did.%s" % word, "")
                if what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                sys.exit(int(what))
        name = "%s.%d" % (self.key, self.step)
        self.put("%s.%d" % (name, self.rank), "1" if self.updated.is_set() else "0")
        wanted = [self.get("%s.%d" % (name, r), self.pids) for r in range(self.size)]
        if None in wanted:
            return DEATH
        self.step += 1
        self.client.commit()
        return "1" in wanted

    def run(self, steps):
        self.enter()
        while self.step < steps:
            change = self.meet()
            if change:
                say("leaves", change)
                self.enter()
        say("done", self.rank)


if __name__ == "__main__":
    Worker(sys.argv[1], sys.argv[3:]).run(int(sys.argv[2]))
