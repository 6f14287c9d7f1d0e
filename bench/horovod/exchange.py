"""The gradient exchange of ResNet-50 (161 tensors, 102 MB) from the last hook to the return of synchronize().

    mpirun -np 2 python3 exchange.py horovod|gloo|ddp [REPEATS]

The model is a bag of parameters of ResNet-50's shapes whose loss is the sum of products with constants, so that the
backward pass is cheap and writes every gradient anew. What is timed is what a training step waits for: from the end of
loss.backward(), when the last hook has run, to all gradients being averaged. zero_grad() is timed apart. With `ddp`,
whose exchange is part of backward(), the same backward pass without an exchange is subtracted. One line of JSON from rank 0.
"""
import json
import os
import statistics
import sys
import time

import torch

REPEATS = int(sys.argv[2]) if len(sys.argv) > 2 else 11


def shapes():
    """The parameters of ResNet-50, in the order of their layers."""
    yield (64, 3, 7, 7)
    yield from [(64,), (64,)]
    inside = 64
    for width, blocks in ((64, 3), (128, 4), (256, 6), (512, 3)):
        for block in range(blocks):
            for shape in ((width, inside, 1, 1), (width, width, 3, 3), (width * 4, width, 1, 1)):
                yield shape
                yield from [(shape[0],), (shape[0],)]
            if block == 0:
                yield (width * 4, inside, 1, 1)
                yield from [(width * 4,), (width * 4,)]
            inside = width * 4
    yield from [(1000, 2048), (1000,)]


class Bag(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.parts = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(s)) for s in shapes()])

    def forward(self, x):
        return sum((p * x).sum() for p in self.parts)


def times(step, zero):
    """Medians over REPEATS of what step() says it took, and of zero()."""
    exchange, clear = [], []
    for k in range(REPEATS + 2):
        start = time.perf_counter()
        zero()
        cleared = time.perf_counter() - start
        took = step()
        if k > 1:
            exchange.append(took)
            clear.append(cleared)
    return statistics.median(exchange), statistics.median(clear)


def horovod():
    import horovod.torch as hvd
    hvd.init()
    model = Bag()
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1), named_parameters=model.named_parameters())
    x = torch.tensor(float(hvd.rank() + 1))

    def step():
        model(x).backward()
        start = time.perf_counter()
        optimizer.synchronize()
        took = time.perf_counter() - start
        with optimizer.skip_synchronize():
            pass
        want = sum(range(1, hvd.size() + 1)) / hvd.size()
        assert abs(float(model.parts[0].grad.view(-1)[5]) - want) < 1e-6
        hvd.barrier()
        return took

    exchange, clear = times(step, optimizer.zero_grad)
    metrics = hvd.metrics()
    rank = hvd.rank()
    hvd.shutdown()
    return rank, exchange, clear, metrics["paths"]


def env_of_mpi():
    rank, size = int(os.environ["OMPI_COMM_WORLD_RANK"]), int(os.environ["OMPI_COMM_WORLD_SIZE"])
    os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
    os.environ.setdefault("MASTER_PORT", "29517")
    torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
    return rank, size


def gloo():
    rank, size = env_of_mpi()
    model = Bag()
    x = torch.tensor(float(rank + 1))

    def step():
        model(x).backward()
        torch.distributed.barrier()
        start = time.perf_counter()
        work = [torch.distributed.all_reduce(p.grad, async_op=True) for p in model.parts]
        for w in work:
            w.wait()
        for p in model.parts:
            p.grad.div_(size)
        return time.perf_counter() - start

    exchange, clear = times(step, lambda: model.zero_grad())
    return rank, exchange, clear, None


def ddp():
    rank, size = env_of_mpi()
    model = Bag()
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    x = torch.tensor(float(rank + 1))

    def backward(module):
        def step():
            loss = module(x)
            torch.distributed.barrier()
            start = time.perf_counter()
            loss.backward()
            return time.perf_counter() - start
        return step

    def clear_all():
        for p in model.parts:
            if p.grad is not None:
                p.grad.zero_()

    with_exchange, clear = times(backward(wrapped), clear_all)
    without, _ = times(backward(model), clear_all)
    return rank, with_exchange - without, clear, None


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, exchange, clear, paths = {"horovod": horovod, "gloo": gloo, "ddp": ddp}[sys.argv[1]]()
    if rank == 0:
        print(json.dumps({"way": sys.argv[1], "exchange_ms": round(exchange * 1e3, 3), "zero_grad_ms": round(clear * 1e3, 3),
                          "paths": paths}))
