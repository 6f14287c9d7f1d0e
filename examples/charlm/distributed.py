"""The same model as train.py, learned by several processes together: each takes other pieces of the text, and Horovod averages what they learn.

    trainyard run --nodes 2 --dir examples/charlm ... -- /usr/bin/python3 distributed.py --data_dir FOLDER [--seconds 30] [--steps 300]

Rank 0 logs the loss, averaged over all processes, and keeps outputs/model.pt.
"""
import argparse
import os
import time

import torch
from torch.nn import functional as F

import horovod.torch as hvd
from azureml.core.run import Run
from train import BLOCK, CharLM, read_texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_dir", required=True, help="folder with text files")
    parser.add_argument("--seconds", type=float, default=30, help="train at most this long")
    parser.add_argument("--steps", type=int, default=300, help="train at most this many steps")
    parser.add_argument("--batch", type=int, default=16, help="of each process")
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--every", type=int, default=25, help="steps between two logged losses")
    args = parser.parse_args()

    hvd.init()
    run = Run.get_context()
    torch.manual_seed(1)  # the same model everywhere
    text = read_texts(args.data_dir)
    number = {c: i for i, c in enumerate(sorted(set(text)))}
    data = torch.tensor([number[c] for c in text])
    model = CharLM(len(number))
    optimizer = hvd.DistributedOptimizer(torch.optim.AdamW(model.parameters(), lr=args.lr), named_parameters=model.named_parameters())
    hvd.broadcast_parameters(model.state_dict(), root_rank=0)
    hvd.broadcast_optimizer_state(optimizer, root_rank=0)
    torch.manual_seed(1 + hvd.rank())  # other pieces of the text on each
    print("rank %d of %d, local rank %d, %d threads" % (hvd.rank(), hvd.size(), hvd.local_rank(), torch.get_num_threads()), flush=True)

    began, total, count = time.monotonic(), 0.0, 0
    for step in range(1, args.steps + 1):
        at = torch.randint(len(data) - BLOCK - 1, (args.batch,))
        batch = torch.stack([data[i:i + BLOCK + 1] for i in at.tolist()])
        loss = F.cross_entropy(model(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total, count = total + loss.item(), count + 1
        if step > 1 and count < args.every and step < args.steps:
            continue
        spent = (time.monotonic() - began) / args.seconds
        mean, spent = hvd.allreduce(torch.tensor([total / count, spent]), name="progress").tolist()  # all stop at the same step
        if hvd.rank() == 0:
            run.log("loss", mean)
            print("step %4d  loss %.3f on %d processes" % (step, mean, hvd.size()), flush=True)
        total, count = 0.0, 0
        if spent >= 1:
            break

    if hvd.rank() == 0:
        os.makedirs("outputs", exist_ok=True)
        torch.save(model.state_dict(), "outputs/model.pt")


if __name__ == "__main__":
    main()
