"""ResNet-18 in the form for small images, of our own code, with GroupNorm (or SyncBatchNorm) on generated images.

    mpirun -np 2 python resnet.py
    mpirun -np 2 python resnet.py --norm sync      statistics of the batches of all ranks together
"""
import argparse
import time

import torch
import torch.nn as nn
import torch.nn.functional as F

import horovod.torch as hvd


def norm(kind, channels):
    return nn.GroupNorm(4, channels) if kind == "group" else hvd.SyncBatchNorm(channels)


class Block(nn.Module):
    """Two convolutions, and the input added to their result."""

    def __init__(self, kind, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = norm(kind, outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = norm(kind, outputs)
        self.short = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.short = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), norm(kind, outputs))

    def forward(self, x):
        y = F.relu(self.norm1(self.conv1(x)))
        return F.relu(self.norm2(self.conv2(y)) + self.short(x))


class ResNet(nn.Module):
    """Stages of two blocks; the width doubles, and the image halves, from stage to stage."""

    def __init__(self, kind="group", width=64, stages=4, classes=10):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), norm(kind, width), nn.ReLU())
        blocks, inputs = [], width
        for stage in range(stages):
            outputs = width << stage
            blocks += [Block(kind, inputs, outputs, 1 if stage == 0 else 2), Block(kind, outputs, outputs, 1)]
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = nn.Linear(inputs, classes)

    def forward(self, x):
        return self.last(self.blocks(self.first(x)).mean((2, 3)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=32, help="samples in a step, on all ranks together")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--width", type=int, default=64, help="channels of the first stage")
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--side", type=int, default=32, help="pixels")
    parser.add_argument("--lr", type=float, default=0.01)
    parser.add_argument("--norm", choices=["group", "sync"], default="group")
    args = parser.parse_args()

    hvd.init()
    if args.batch % hvd.size():
        parser.error("--batch %d cannot be shared out in equal parts" % args.batch)
    torch.manual_seed(7)
    torch.set_num_threads(1)
    images = torch.randn(256, 3, args.side, args.side)
    classes = torch.randint(10, (256,))
    model = ResNet(args.norm, args.width, args.stages)
    optimizer = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, weight_decay=1e-4)
    optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)

    begin = time.monotonic()
    for step in range(args.steps):
        batch = torch.arange(step * args.batch, (step + 1) * args.batch) % len(images)
        mine = batch[hvd.rank()::hvd.size()]
        optimizer.zero_grad()
        loss = F.cross_entropy(model(images[mine]), classes[mine])
        loss.backward()
        optimizer.step()
        loss = hvd.allreduce(loss.detach(), name="loss")
        if hvd.rank() == 0:
            print("step %d loss %.7f" % (step, loss), flush=True)
    if hvd.rank() == 0:
        print("%.1f images/s" % (args.steps * args.batch / (time.monotonic() - begin)))


if __name__ == "__main__":
    main()
