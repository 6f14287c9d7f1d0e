"""Tensors of other devices, which the engine reads and writes in memory of the host.

A CUDA tensor is copied into pinned memory, operated on there, and copied back. Everything that knows of devices is here.
"""
from typing import Optional, Sequence

import torch


def on_host(tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` itself when it is in memory of the host, else a copy there, complete when this returns."""
    if tensor.device.type == "cpu":
        return tensor
    host = empty_host(tensor)
    host.copy_(tensor, non_blocking=True)
    if tensor.device.type == "cuda":
        torch.cuda.current_stream(tensor.device).synchronize()
    return host


def empty_host(tensor: torch.Tensor, shape: Optional[Sequence[int]] = None) -> torch.Tensor:
    """Memory of the host for a tensor of that type and shape; pinned, if `tensor` is on a GPU."""
    return torch.empty(tensor.shape if shape is None else shape, dtype=tensor.dtype, pin_memory=tensor.device.type == "cuda")


def like(host: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    """`host` on the device of `tensor`."""
    return host if tensor.device.type == "cpu" else host.to(tensor.device)
