"""Batch normalization over the batches of all ranks, on the CPU and on GPUs."""
from typing import Any, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch.autograd.function import once_differentiable

from horovod.torch.mpi_ops import Sum, allgather, allreduce_async_, size, synchronize


def _name(phase: str, values: torch.Tensor) -> str:
    """Layers of one width follow each other under one name: no rank needs to number its layers as the others do."""
    return "sync_batch_norm.%s.%d.%s" % (phase, values.numel(), str(values.dtype).split(".")[-1])


def _dims(x: torch.Tensor) -> List[int]:
    return [0] + list(range(2, x.dim()))


def _wide(x: torch.Tensor) -> torch.Tensor:
    """Sums of half-precision values need float32; others are exact enough in their own type."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _union(x: torch.Tensor) -> Tuple[torch.Tensor, torch.Tensor, float]:
    """Mean and biased variance of each channel, and the number of values in one, over the batches of all ranks.

    Each rank sends its count, mean, and sum of squared distances from that mean: sums of plain squares would lose all
    digits of a variance that is small beside the mean.
    """
    channels, count = x.shape[1], x.numel() // x.shape[1]
    mine = x.new_zeros(1, 2 * channels + 1, dtype=torch.float64)
    if count:
        variance, mean = torch.var_mean(_wide(x), _dims(x), unbiased=False)
        mine[0, 0], mine[0, 1:channels + 1], mine[0, channels + 1:] = count, mean, variance.double() * count
    every = allgather(mine, name=_name("forward", mine))
    counts, means, squares = every[:, :1], every[:, 1:channels + 1], every[:, channels + 1:]
    total = float(counts.sum())
    if total <= 1:
        raise ValueError("Expected more than 1 value per channel when training, on all ranks together; the input of "
                         "this one has size %s" % (tuple(x.shape),))
    mean = (counts * means).sum(0) / total
    variance = (squares.sum(0) + (counts * (means - mean) ** 2).sum(0)) / total
    return mean, variance, total


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: Optional[torch.Tensor], bias: Optional[torch.Tensor],
                mean: torch.Tensor, variance: torch.Tensor, total: float, eps: float) -> torch.Tensor:
        ctx.total = total
        kind = _wide(x).dtype
        ctx.save_for_backward(x, weight, mean.to(kind), torch.rsqrt(variance + eps).to(kind))
        return F.batch_norm(x, mean.to(kind), variance.to(kind), weight, bias, False, 0.0, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: torch.Tensor) -> Any:
        x, weight, mean, scale = ctx.saved_tensors
        shape = [1, -1] + [1] * (x.dim() - 2)
        wide = _wide(dy)
        normal = (_wide(x) - mean.view(shape)) * scale.view(shape)
        sum_dy, sum_dy_normal = wide.sum(_dims(x)), (wide * normal).sum(_dims(x))
        dx = None
        if ctx.needs_input_grad[0]:
            both = torch.cat([sum_dy, sum_dy_normal])
            name = _name("backward", both)
            both = synchronize(allreduce_async_(both, name=name, op=Sum)) / ctx.total
            channels = x.shape[1]
            dx = wide - both[:channels].view(shape) - normal * both[channels:].view(shape)
            factor = scale if weight is None else scale * weight
            dx = (dx * factor.view(shape)).to(x.dtype)
        # The optimizer reduces these two as it does every gradient of a parameter.
        dweight = sum_dy_normal.to(weight.dtype) if weight is not None and ctx.needs_input_grad[1] else None
        dbias = sum_dy.to(weight.dtype) if weight is not None and ctx.needs_input_grad[2] else None
        return dx, dweight, dbias, None, None, None, None


class SyncBatchNorm(torch.nn.modules.batchnorm._BatchNorm):
    """torch.nn.BatchNorm1d, 2d and 3d, with the statistics of all ranks' batches together while training.

    Batches may differ in size, and may be empty on some ranks.  Every rank must run its layers in the same order.
    Evaluation, with or without running statistics, asks nobody: a rank may evaluate alone.
    """

    def _check_input_dim(self, input: torch.Tensor) -> None:
        if input.dim() < 2:
            raise ValueError("expected at least 2D input (got {}D input)".format(input.dim()))
        if self.num_features != input.shape[1]:
            raise ValueError("expected {} channels in dimension 1 (got {})".format(self.num_features, input.shape[1]))

    def _momentum(self) -> float:
        if self.momentum is not None:
            return self.momentum
        return 1.0 / float(self.num_batches_tracked) if self.num_batches_tracked is not None else 0.0

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        self._check_input_dim(input)
        tracked = self.running_mean is not None
        if not self.training:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, not tracked,
                                0.0, self.eps)
        if tracked and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self._momentum()
        if size() == 1:
            return F.batch_norm(input, self.running_mean, self.running_var, self.weight, self.bias, True, momentum,
                                self.eps)
        with torch.no_grad():
            mean, variance, total = _union(input)
            if tracked:
                self.running_mean.mul_(1 - momentum).add_(mean.to(self.running_mean.dtype), alpha=momentum)
                unbiased = variance * (total / (total - 1))
                self.running_var.mul_(1 - momentum).add_(unbiased.to(self.running_var.dtype), alpha=momentum)
        return _Normalize.apply(input, self.weight, self.bias, mean, variance, total, self.eps)
