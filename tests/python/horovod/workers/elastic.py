"""Elastic training whose losses do not depend on the ranks that come and go: elastic.py [kill MARK | hosts FILE]

kill    rank 1 kills itself in step 4, the first time: MARK says that it has
hosts   FILE, which a discovery script prints, gets a second slot in step 2, and loses it again in step 5
"""
import os
import signal
import sys
import time

import torch
import torch.nn.functional as F

import horovod.torch as hvd

BATCH, SAMPLES = 12, 96
PATIENCE_S = 60


def kill(path, step):
    if step == 4 and hvd.rank() == 1 and not os.path.exists(path):
        open(path, "w", encoding="utf-8").close()
        os.kill(os.getpid(), signal.SIGKILL)


def change_hosts(path, state):
    """Change the hosts in the steps where that is due, and train no further until it has come about."""
    wanted = {(2, 1): 2, (5, 2): 1}.get((state.step, hvd.size()))
    if wanted is None:
        return
    if hvd.rank() == 0:
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write("localhost:%d\n" % wanted)
        os.replace(path + ".new", path)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        state.check_host_updates()
    raise RuntimeError("the hosts have not changed in %d s" % PATIENCE_S)


def main(what=None, path=None):
    hvd.init()
    torch.manual_seed(1)
    data = torch.randn(SAMPLES, 4)
    target = data.sum(1, keepdim=True)
    model = torch.nn.Linear(4, 1)
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5),
                                         model.named_parameters())
    sampler = hvd.elastic.ElasticSampler(range(SAMPLES), seed=1)
    state = hvd.elastic.TorchState(model=model, optimizer=optimizer, sampler=sampler, step=0)

    @hvd.elastic.run
    def train(state):
        print("rank %d of %d begins at step %d" % (hvd.rank(), hvd.size(), state.step), flush=True)
        part = BATCH // hvd.size()
        for i, rows in enumerate(torch.utils.data.DataLoader(range(SAMPLES), batch_size=part, sampler=state.sampler)):
            optimizer.zero_grad()
            loss = F.mse_loss(model(data[rows]), target[rows])
            loss.backward()
            if what == "kill":
                kill(path, state.step)
            optimizer.step()
            loss = hvd.allreduce(loss.detach(), name="loss")
            if hvd.rank() == 0:
                print("step %d loss %.7f" % (state.step, loss), flush=True)
            state.sampler.record_batch(i, part)
            state.step += 1
            if state.step % 2 == 0 or what == "hosts":
                state.commit()
            if what == "hosts":
                change_hosts(path, state)

    train(state)


if __name__ == "__main__":
    main(*sys.argv[1:])
