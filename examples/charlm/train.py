"""charlm - a small character-level transformer that learns the style of the texts in a folder.

    python3 train.py --data_dir FOLDER [--seconds 60] [--steps 1000] [--lr 0.005]

Run by itself it prints what it logs; submitted to Trainyard (see ../demo) its loss is a metric of the run, and
outputs/model.pt and outputs/sample.txt are kept. Works with torch 1.13 and later.
"""
import argparse
import math
import os
import time

import torch
from torch import nn
from torch.nn import functional as F

from azureml.core.run import Run

BLOCK = 48  # characters that the model looks back
TEXT_MAX = 2_000_000  # characters that are read


def read_texts(folder):
    """All regular text files below a folder as one text; links are left out, because they would be read twice."""
    texts = []
    for where, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            path = os.path.join(where, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, encoding="utf-8", errors="replace") as file:
                    texts.append(file.read(TEXT_MAX))
    return "\n".join(texts)[:TEXT_MAX]


class Block(nn.Module):
    """Attention to what came before, then a small network, each around a residual connection."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x, mask):
        batch, length, width = x.shape
        q, k, v = self.qkv(self.norm1(x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1)) / math.sqrt(q.shape[-1]) + mask[:length, :length]
        attended = (weights.softmax(-1) @ v).transpose(1, 2).reshape(batch, length, width)
        x = x + self.out(attended)
        return x + self.mlp(self.norm2(x))


class CharLM(nn.Module):
    """Logits of the next character at each place of a batch of texts."""

    def __init__(self, characters, width=64, heads=4, layers=2):
        super().__init__()
        self.embed = nn.Embedding(characters, width)
        self.place = nn.Parameter(torch.randn(BLOCK, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, characters)
        self.register_buffer("mask", torch.full((BLOCK, BLOCK), float("-inf")).triu(1))

    def forward(self, x):
        x = self.embed(x) + self.place[:x.shape[1]]
        for block in self.blocks:
            x = block(x, self.mask)
        return self.head(self.norm(x))


@torch.no_grad()
def sample(model, alphabet, start, length, temperature=0.8):
    """`length` characters that the model writes after `start`."""
    ids = [alphabet.index(c) for c in start]
    for _ in range(length):
        logits = model(torch.tensor([ids[-BLOCK:]]))[0, -1] / temperature
        ids.append(int(torch.multinomial(logits.softmax(-1), 1)))
    return "".join(alphabet[i] for i in ids)


def main():
    parser = argparse.ArgumentParser(description="Train a character-level transformer on the texts of a folder.")
    parser.add_argument("--data_dir", required=True, help="folder with text files")
    parser.add_argument("--seconds", type=float, default=60, help="train at most this long")
    parser.add_argument("--steps", type=int, default=1000, help="train at most this many steps")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=5e-3)
    parser.add_argument("--every", type=int, default=25, help="steps between two logged losses")
    args = parser.parse_args()

    run = Run.get_context()
    torch.manual_seed(1)
    text = read_texts(args.data_dir)
    if len(text) <= BLOCK + 1:
        raise SystemExit("'%s' holds %d characters of text; more than %d are needed" % (args.data_dir, len(text), BLOCK + 1))
    alphabet = "".join(sorted(set(text)))
    number = {c: i for i, c in enumerate(alphabet)}
    data = torch.tensor([number[c] for c in text])
    model = CharLM(len(alphabet))
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    print("%d characters, %d different; %d parameters; torch %s" % (
        len(text), len(alphabet), sum(p.numel() for p in model.parameters()), torch.__version__))

    began, total, count = time.monotonic(), 0.0, 0
    for step in range(1, args.steps + 1):
        at = torch.randint(len(data) - BLOCK - 1, (args.batch,))
        batch = torch.stack([data[i:i + BLOCK + 1] for i in at.tolist()])
        logits = model(batch[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total, count = total + loss.item(), count + 1
        spent = time.monotonic() - began
        done = max(step / args.steps, spent / args.seconds)
        if step == 1 or count == args.every or done >= 1:
            run.log("loss", total / count)
            run.log("progress", min(1.0, done))
            print("step %4d  loss %.3f  [%-30s] %3d%%" % (step, total / count, "#" * int(30 * min(1, done)), 100 * min(1, done)),
                  flush=True)
            total, count = 0.0, 0
        if done >= 1:
            break

    written = sample(model, alphabet, "\n", 400)
    os.makedirs("outputs", exist_ok=True)
    torch.save({"model": model.state_dict(), "alphabet": alphabet}, "outputs/model.pt")
    with open("outputs/sample.txt", "w", encoding="utf-8") as file:
        file.write(written)
    print("\nA sample:\n%s" % written)


if __name__ == "__main__":
    main()
