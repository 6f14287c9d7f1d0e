"""Training that goes on when ranks come and go.

    horovodrun -np 2 --min-np 1 --max-np 4 --host-discovery-script ./hosts.sh python elastic.py
    mpirun -np 2 python elastic.py                 the same training, with ranks that stay

The sampler shares out what nobody has processed in this epoch; the state is kept in memory after every --commit steps.
"""
import argparse

import torch
import torch.nn as nn
import torch.nn.functional as F
import torch.utils.data

import horovod.torch as hvd
from digits import digits


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=64, help="samples in a step, on all ranks together")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--samples", type=int, default=512)
    parser.add_argument("--commit", type=int, default=2, help="steps between two saves")
    parser.add_argument("--lr", type=float, default=0.1)
    args = parser.parse_args()

    hvd.init()
    torch.manual_seed(42)
    torch.set_num_threads(1)
    images, classes = digits(args.samples)
    dataset = torch.utils.data.TensorDataset(images, classes)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 10))
    optimizer = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.5),
                                         named_parameters=model.named_parameters())
    sampler = hvd.elastic.ElasticSampler(dataset, shuffle=True, seed=3)
    state = hvd.elastic.TorchState(model=model, optimizer=optimizer, sampler=sampler, epoch=0, step=0)
    state.register_reset_callbacks([lambda: print("now %d ranks" % hvd.size(), flush=True) if hvd.rank() == 0 else None])

    @hvd.elastic.run
    def train(state):
        while state.epoch < args.epochs:
            # What is left of the last batch stays the same for every number of ranks that divides --batch.
            part = max(1, args.batch // hvd.size())
            loader = torch.utils.data.DataLoader(dataset, batch_size=part, sampler=state.sampler)
            for i, (x, y) in enumerate(loader):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(x), y)
                loss.backward()
                optimizer.step()
                loss = hvd.allreduce(loss.detach(), name="loss")
                if hvd.rank() == 0:
                    print("step %d loss %.7f" % (state.step, loss), flush=True)
                state.sampler.record_batch(i, part)
                state.step += 1
                if state.step % args.commit == 0:
                    state.commit()
            state.epoch += 1
            state.sampler.set_epoch(state.epoch)
            state.commit()

    train(state)


if __name__ == "__main__":
    main()
