"""A small character-level transformer: it reads the text files of a folder and learns to write like them.

Letters for shapes: B sequences per batch, T characters per sequence, C channels, H heads, V characters of the vocabulary.
Runs with torch 1.13 and later, on the CPU in about half a minute.
"""
import argparse
import glob
import math
import os
import time

import torch
from torch import nn
from torch.nn import functional as F

from azureml.core.run import Run


class Block(nn.Module):
    """One layer: causal self-attention, then a small perceptron, each added to what comes in. (B, T, C) -> (B, T, C)"""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, channels)
        self.mlp = nn.Sequential(nn.Linear(channels, 4 * channels), nn.GELU(), nn.Linear(4 * channels, channels))

    def attend(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).view(B, T, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)  # each (B, H, T, C/H)
        scores = q @ k.transpose(-2, -1) / math.sqrt(C // self.heads)  # (B, H, T, T)
        future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)
        weights = scores.masked_fill(future, float("-inf")).softmax(dim=-1)
        return self.out((weights @ v).transpose(1, 2).reshape(B, T, C))

    def forward(self, x):
        x = x + self.attend(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class CharLM(nn.Module):
    """Characters (B, T) -> logits of the next character (B, T, V)."""

    def __init__(self, vocabulary, context, channels=64, heads=4, layers=2):
        super().__init__()
        self.context = context
        self.characters = nn.Embedding(vocabulary, channels)
        self.places = nn.Embedding(context, channels)
        self.blocks = nn.Sequential(*[Block(channels, heads) for _ in range(layers)])
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, vocabulary)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.characters(x) + self.places(torch.arange(x.shape[1], device=x.device)))))

    @torch.no_grad()
    def write(self, start, length, temperature=0.8):
        """Continue `start` (1, T) by so many characters."""
        x = start
        for _ in range(length):
            logits = self(x[:, -self.context:])[:, -1] / temperature  # (1, V)
            x = torch.cat([x, torch.multinomial(logits.softmax(dim=-1), 1)], dim=1)
        return x


def read_text(folder):
    """All text files of the folder, one after the other, ASCII only."""
    paths = sorted(p for p in glob.glob(os.path.join(folder, "**", "*"), recursive=True) if os.path.isfile(p))
    text = "\n\n".join(open(p, encoding="ascii", errors="ignore").read() for p in paths)
    if len(text) < 10000:
        raise SystemExit("%d characters of text in '%s' are too few to learn from" % (len(text), folder))
    print("%d characters from %d files" % (len(text), len(paths)))
    return text


def batch(data, size, context):
    """Random pieces of the text: inputs and targets, both (B, T); a target is the input one character on."""
    at = torch.randint(len(data) - context - 1, (size,))
    pieces = torch.stack([data[i:i + context + 1] for i in at.tolist()])
    return pieces[:, :-1], pieces[:, 1:]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data_dir", required=True, help="folder with text files")
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()

    run = Run.get_context()
    torch.manual_seed(args.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    text = read_text(args.data_dir)
    alphabet = sorted(set(text))
    number = {c: i for i, c in enumerate(alphabet)}
    data = torch.tensor([number[c] for c in text])
    model = CharLM(len(alphabet), args.context).to(device)
    parameters = sum(p.numel() for p in model.parameters())
    print("torch %s on %s, %d parameters, %d different characters" % (torch.__version__, device, parameters, len(alphabet)))
    run.tag("parameters", str(parameters))

    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.lr, total_steps=args.steps)
    start, smooth = time.time(), None
    for step in range(1, args.steps + 1):
        x, y = batch(data, args.batch, args.context)
        loss = F.cross_entropy(model(x.to(device)).flatten(0, 1), y.to(device).flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        smooth = loss.item() if smooth is None else 0.9 * smooth + 0.1 * loss.item()
        if step == 1 or step % 20 == 0 or step == args.steps:
            run.log("loss", smooth)
            run.log("lr", schedule.get_last_lr()[0])
            print("step %4d/%d  loss %.3f  %.0f characters/s" % (
                step, args.steps, smooth, step * args.batch * args.context / (time.time() - start)))

    os.makedirs("outputs", exist_ok=True)
    torch.save({"model": model.state_dict(), "alphabet": alphabet, "context": args.context}, "outputs/model.pt")
    prompt = torch.tensor([[number[c] for c in "\n" if c in number] or [0]], device=device)
    sample = "".join(alphabet[i] for i in model.write(prompt, 400)[0].tolist()).strip()
    with open("outputs/sample.txt", "w") as f:
        f.write(sample + "\n")
    print("\nWhat it writes now:\n" + sample)


if __name__ == "__main__":
    main()
