"""A training script under horovodrun: train.py FOLDER STEPS [RANK STEP], where that rank kills itself in that step."""
import os
import signal
import sys

import torch

import horovod.torch as hvd

folder, steps = sys.argv[1], int(sys.argv[2])
dies = tuple(map(int, sys.argv[3:5]))
hvd.init()
torch.manual_seed(hvd.rank())           # every rank begins elsewhere: rank 0's state has to reach the others
model = torch.nn.Linear(4, 1)
optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.05), named_parameters=model.named_parameters())
state = hvd.elastic.TorchState(model=model, optimizer=optimizer, batch=0)
x = torch.arange(32, dtype=torch.float32).reshape(8, 4) / 32
y = x.sum(dim=1, keepdim=True)


@hvd.elastic.run
def train(state):
    print("begins", hvd.rank(), "of", hvd.size(), "at", state.batch, flush=True)
    while state.batch < steps:
        if dies == (hvd.rank(), state.batch) and not os.path.exists(os.path.join(folder, "died")):
            open(os.path.join(folder, "died"), "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(x), y)        # the same on all ranks: their number does not matter
        loss.backward()
        optimizer.step()
        state.batch += 1
        state.commit()
    return loss.item()


print("loss %.6f" % train(state), "of", hvd.size(), flush=True)
