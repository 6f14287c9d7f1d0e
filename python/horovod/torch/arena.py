"""Gradients in memory that every rank of the node can reach, so that reducing them copies nothing.

`alloc()` gives plain tensors in that memory.  `Gradients` gives each parameter of an optimizer a place in one block
per dtype, and `p.grad` becomes a view of that place.  HOROVOD_GRADIENT_ARENA=0 turns both off.

The memory goes with the engine's context.  `retire()`, called before a context closes, moves gradients to memory of
their own; after the next start of the engine the places are asked for again.  (Other tensors that still lie in the
memory are rescued by the extension: they keep their addresses, but nobody shares them any more.)
"""
import atexit
import os
import weakref
from typing import Any, Dict, Iterable, List, Optional

import torch

from horovod.torch import mpi_ops

ALIGN = 64                      # bytes, of every gradient: a cache line and the widest vector

_all: "weakref.WeakSet[Gradients]" = weakref.WeakSet()


def enabled() -> bool:
    """Whether the environment allows the arena."""
    return os.environ.get("HOROVOD_GRADIENT_ARENA", "1").strip().lower() not in ("0", "false", "off", "no")


def current() -> Any:
    """The engine's open context, or None."""
    return getattr(mpi_ops._basics, "context", None)


def _item_size(dtype: torch.dtype) -> int:
    return torch.empty(0, dtype=dtype).element_size()


def alloc(numel: int, dtype: torch.dtype) -> Optional[torch.Tensor]:
    """A 1-D tensor of `numel` zeros in the arena; None where there is no arena, or no room in it.

    Its memory returns to the arena with the last tensor that looks at it.
    """
    context = current() if numel > 0 and enabled() else None
    memory = context.arena_alloc(numel * _item_size(dtype)) if context is not None else None
    return torch.frombuffer(memory, dtype=dtype, count=numel) if memory is not None else None


def retire() -> None:
    """Move all gradients out of the arena."""
    for gradients in list(_all):
        gradients.leave()


def _drop() -> None:
    """At the end of the process, and before the engine closes: nobody needs a copy of the gradients."""
    for gradients in list(_all):
        gradients.leave(keep=False)


def _dense(p: torch.Tensor) -> bool:
    """Whether the elements of `p` fill their memory without a gap or an overlap, in any order of dimensions."""
    expected = 1
    for stride, length in sorted((s, n) for s, n in zip(p.stride(), p.shape) if n != 1):
        if stride != expected:
            return False
        expected *= length
    return True


class Place:
    """Where the gradient of `param` is in the arena: the base of what an optimizer knows of a parameter."""
    __slots__ = ("param", "place", "at", "_view")

    def __init__(self, param: torch.Tensor) -> None:
        self.param = param
        self.place: Optional[torch.Tensor] = None   # in the shape and the layout of the parameter; never handed out
        self.at = 0                                 # its address
        self._view: Optional[torch.Tensor] = None   # what is handed out as param.grad

    def holds(self, grad: Optional[torch.Tensor]) -> bool:
        """Whether `grad` is the view of this place, and still looks at it: `p.grad.data = x` makes it look elsewhere."""
        return grad is not None and grad is self._view and grad.data_ptr() == self.at

    def view(self) -> torch.Tensor:
        """What is to be param.grad."""
        if self._view is None or self._view.data_ptr() != self.at:
            self._view = self.place.detach()
        return self._view

    def set(self, place: Optional[torch.Tensor]) -> None:
        """It is there from now on, or nowhere."""
        self.place, self._view, self.at = place, None, place.data_ptr() if place is not None else 0


class Gradients:
    """The places of the gradients of parameters.

    Their order is the reverse of the order given, which is about the order in which backward fills them.
    """

    def __init__(self, slots: Iterable[Place]) -> None:
        self._slots: List[Place] = list(slots)
        self._blocks: List[torch.Tensor] = []
        self._asked: Any = None         # the context that was asked for the places
        if not _all:
            atexit.unregister(_drop)
            atexit.register(_drop)      # after the engine's own, and therefore called before it
        _all.add(self)

    def place(self) -> None:
        """Ask for memory, once in the life of a context, and set each place."""
        context = current()
        if context is None or context is self._asked:
            return
        self._asked = context
        sizes: Dict[torch.dtype, int] = {}
        places = []
        for slot in reversed(self._slots):
            slot.set(None)
            p = slot.param
            if p.device.type != "cpu" or p.layout != torch.strided or p.numel() == 0 or not _dense(p):
                continue
            step = ALIGN // _item_size(p.dtype)
            start = sizes.get(p.dtype, 0)
            sizes[p.dtype] = start + (p.numel() + step - 1) // step * step
            places.append((slot, start))
        blocks = {dtype: alloc(count, dtype) for dtype, count in sizes.items()}
        for slot, start in places:
            block = blocks[slot.param.dtype]
            if block is not None:
                slot.set(block.as_strided(slot.param.shape, slot.param.stride(), start))
        self._blocks = [block for block in blocks.values() if block is not None]

    def leave(self, keep: bool = True) -> None:
        """Give every gradient that is in its place memory of its own, or drop it, and forget the places."""
        for slot in self._slots:
            if slot.holds(slot.param.grad):
                slot.param.grad = slot.place.clone() if keep else None
            slot.set(None)
        self._blocks, self._asked = [], None

    def zero(self) -> None:
        """Zero every place: one pass over one block per dtype."""
        for block in self._blocks:
            block.zero_()
