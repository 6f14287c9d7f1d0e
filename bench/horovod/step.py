"""A training step of 25 million parameters (80 layers of 559 x 559), batch 16, SGD.

    mpirun -np 2 python3 step.py alone|horovod|ddp [REPEATS]

`alone`: the processes have nothing to do with each other, which is the limit. The time of a step is that of the slowest
rank; the median of REPEATS is printed by rank 0 as one line of JSON.
"""
import json
import os
import statistics
import sys
import time

import torch


def main(way, repeats):
    torch.set_num_threads(1)
    torch.manual_seed(1)
    rank = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))
    size = int(os.environ.get("OMPI_COMM_WORLD_SIZE", "1"))
    layers = []
    for _ in range(80):
        layers += [torch.nn.Linear(559, 559), torch.nn.ReLU()]
    model = torch.nn.Sequential(*layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(16, 559), torch.randn(16, 559)
    module, slowest = model, None
    import horovod.torch as hvd
    hvd.init()
    if way == "horovod":
        optimizer = hvd.DistributedOptimizer(optimizer, named_parameters=model.named_parameters())
    elif way == "ddp":
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29518")
        torch.distributed.init_process_group("gloo", rank=rank, world_size=size)
        module = torch.nn.parallel.DistributedDataParallel(model)
    times = []
    for k in range(repeats + 2):
        hvd.barrier()
        start = time.perf_counter()
        optimizer.zero_grad()
        torch.nn.functional.mse_loss(module(x), y).backward()
        optimizer.step()
        took = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
        slowest = hvd.allreduce(took, op=hvd.Max, name="took").item()
        if k > 1:
            times.append(slowest)
    if rank == 0:
        print(json.dumps({"way": way, "step_ms": round(statistics.median(times) * 1e3, 2)}))
    hvd.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 7)
