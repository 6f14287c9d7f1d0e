"""Adasum: the steps of the ranks are combined by how much they agree, instead of averaged.

    mpirun -np 4 python adasum.py

The number of ranks must be a power of two.  With --whole-batch every rank sees the whole batch: equal steps combine to
the same step, so that the losses are those of one rank.  Otherwise each rank has its part, and the combined step is
between the average (equal directions) and the sum (orthogonal ones).
"""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F

import horovod.torch as hvd
from digits import digits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="samples in a step, on all ranks together")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--whole-batch", action="store_true")
    args = parser.parse_args()

    hvd.init()
    torch.manual_seed(42)
    torch.set_num_threads(1)
    images, classes = digits(512)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters(), op=hvd.Adasum)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    for step in range(args.steps):
        batch = torch.arange(step * args.batch, (step + 1) * args.batch) % len(images)
        mine = batch if args.whole_batch else batch[hvd.rank()::hvd.size()]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[mine]), classes[mine])
        loss.backward()
        optimizer.step()
        loss = hvd.allreduce(loss.detach(), name="loss")
        if hvd.rank() == 0:
            print("step %d loss %.7f" % (step, loss), flush=True)


if __name__ == "__main__":
    main()
