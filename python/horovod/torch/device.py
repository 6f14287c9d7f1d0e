"""Tensors of other devices. Everything that knows of devices is here.

The engine takes CUDA tensors as they are: it gets their addresses, and an event after which they may be used. They are
kept alive until the operation is over, which includes their device's part of it; so no stream needs to be told of them
(record_stream), and any stream may use the results at once. Where the engine has no CUDA (a torch for ROCm, a runtime that
cannot be found), tensors are copied into memory of the host here, operated on there, and copied back.
"""
from typing import Any, NamedTuple, Optional, Sequence

import torch


class Ready(NamedTuple):
    """The GPU that the engine finds tensors on (-1: memory of the host), and the event that they are ready after."""
    gpu: int
    event: Any
    handle: int     # the event as the engine takes it; 0: none


HOST = Ready(-1, None, 0)


def takes(context: Any, tensor: torch.Tensor) -> bool:
    """Whether the engine works on `tensor` where it is."""
    if tensor.device.type == "cpu":
        return True
    return tensor.device.type == "cuda" and torch.version.cuda is not None and context.gpu_ready() is None


def for_engine(context: Any, tensor: torch.Tensor) -> torch.Tensor:
    """`tensor` itself where the engine takes it, else a copy in memory of the host."""
    return tensor if takes(context, tensor) else on_host(tensor)


def ready(tensor: torch.Tensor) -> Ready:
    """When what is given to the engine, on the device of `tensor`, may be used: after all that is on the current stream now."""
    if tensor.device.type != "cuda":
        return HOST
    event = torch.cuda.Event()
    event.record(torch.cuda.current_stream(tensor.device))
    return Ready(tensor.device.index, event, event.cuda_event)


class _OnGpu:
    """A block of the engine as torch.as_tensor() takes it, which keeps it alive."""

    def __init__(self, block: Any) -> None:
        self.block = block
        self.__cuda_array_interface__ = {"shape": (block.nbytes,), "typestr": "|u1", "data": (block.address, False), "version": 2}


def adopt(block: Any, like: torch.Tensor, count: int) -> torch.Tensor:
    """`count` elements of the type of `like` on the memory of a block of the engine; on the device of `like`."""
    if block.device < 0:
        host = torch.frombuffer(block, dtype=like.dtype, count=count)
        return host if like.device.type == "cpu" else host.to(like.device)
    return torch.as_tensor(_OnGpu(block), device=like.device).view(like.dtype)


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
