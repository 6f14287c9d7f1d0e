"""A small CNN on ten classes of images.

    mpirun -np 2 python mnist.py
    horovodrun -np 2 python mnist.py

--batch is the batch of all ranks together, so that the loss of each step does not depend on their number.
"""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F

import horovod.torch as hvd
from digits import digits


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 10, kernel_size=5)
        self.conv2 = nn.Conv2d(10, 20, kernel_size=5)
        self.fc1 = nn.Linear(320, 50)
        self.fc2 = nn.Linear(50, 10)

    def forward(self, x):
        x = F.relu(F.max_pool2d(self.conv1(x), 2))
        x = F.relu(F.max_pool2d(self.conv2(x), 2))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="samples in a step, on all ranks together")
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--fp16-allreduce", action="store_true", help="send gradients in half precision")
    parser.add_argument("--groups", type=int, default=0, help="submit the gradients in so many groups")
    parser.add_argument("--gradient-predivide-factor", type=float, default=1.0)
    parser.add_argument("--passes", type=int, default=1, help="backward passes for each step")
    args = parser.parse_args()

    hvd.init()
    if args.batch % (hvd.size() * args.passes):
        parser.error("--batch %d cannot be shared out in equal parts" % args.batch)
    torch.manual_seed(42 + hvd.rank())          # ranks begin with different models; the broadcast makes them equal
    if hvd.rank() == 0:
        torch.manual_seed(42)
    torch.set_num_threads(1)
    images, classes = digits(1024)

    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.5)
    optimizer = hvd.DistributedOptimizer(
        optimizer, named_parameters=model.named_parameters(), groups=args.groups or None,
        compression=hvd.Compression.fp16 if args.fp16_allreduce else hvd.Compression.none,
        gradient_predivide_factor=args.gradient_predivide_factor, backward_passes_per_step=args.passes)
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)

    for step in range(args.steps):
        batch = torch.arange(step * args.batch, (step + 1) * args.batch) % len(images)
        mine = batch[hvd.rank()::hvd.size()]
        optimizer.zero_grad()
        total = 0.0
        for part in mine.chunk(args.passes):
            loss = F.cross_entropy(model(images[part]), classes[part]) / args.passes
            loss.backward()
            total += loss.detach()
        optimizer.step()
        total = hvd.allreduce(total, name="loss")
        if hvd.rank() == 0:
            print("step %d loss %.7f" % (step, total), flush=True)


if __name__ == "__main__":
    main()
