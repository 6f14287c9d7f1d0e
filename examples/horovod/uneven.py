"""Ranks with unequal amounts of data: who has no more joins, and the others go on.

    mpirun -np 4 python uneven.py

A rank that has joined counts as zeros in every allreduce, and Average still divides by the number of all ranks.  So the
loss of a rank is the sum over its samples, divided by its fair part of the batch: then the average is the mean of the
whole batch, however many ranks it is spread over.
"""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F

import horovod.torch as hvd
from digits import digits


def steps_of(rank, size, steps):
    """How many steps `rank` has data for: rank 0 for all of them, the last rank for half of them."""
    return steps if rank == 0 else steps - steps * rank // (2 * max(1, size - 1))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=48, help="samples in a step, on all ranks together")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--lr", type=float, default=0.05)
    args = parser.parse_args()

    hvd.init()
    torch.manual_seed(42)
    torch.set_num_threads(1)
    images, classes = digits(512)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 48), nn.ReLU(), nn.Linear(48, 10))
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9),
                                         named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)

    rank, size = hvd.rank(), hvd.size()
    for step in range(steps_of(rank, size, args.steps)):
        batch = torch.arange(step * args.batch, (step + 1) * args.batch) % len(images)
        still_here = [r for r in range(size) if step < steps_of(r, size, args.steps)]
        mine = batch[still_here.index(rank)::len(still_here)]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[mine]), classes[mine], reduction="sum") * size / args.batch
        loss.backward()
        optimizer.step()
        loss = hvd.allreduce(loss.detach(), name="loss")
        if rank == 0:
            print("step %d loss %.7f" % (step, loss), flush=True)
    last = hvd.join()
    # Those who joined early have an old model.
    hvd.broadcast_parameters(model.state_dict(), root_rank=last)
    if rank == 0:
        print("the last rank to join was %d" % last)


if __name__ == "__main__":
    main()
