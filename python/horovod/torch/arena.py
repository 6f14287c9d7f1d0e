"""Gradients in memory that every rank of the node can reach, so that reducing them copies nothing.

`alloc()` gives plain tensors in that memory.  `Gradients` gives each parameter of an optimizer a place in one block
per dtype, and `p.grad` becomes a view of that place.  HOROVOD_GRADIENT_ARENA=0 turns both off.

The memory belongs to the engine's context and goes when that is closed.  Therefore `retire()` comes before every
close: it moves gradients to memory of their own, and the places are handed out again by the next context.
"""
import ctypes
import os
import weakref
from typing import Any, Dict, Iterable, List, Optional, Set

import torch

ALIGN = 64                      # bytes, of every gradient: a cache line and the widest vector

_blocks: Set[int] = set()       # blocks that tensors look at, by identity of the buffer
_tenants: "weakref.WeakSet[Any]" = weakref.WeakSet()            # who must leave before a context closes
_generation = 0                 # rises when the memory of a context is given up


def enabled() -> bool:
    """Whether the environment allows the arena."""
    return os.environ.get("HOROVOD_GRADIENT_ARENA", "1").strip().lower() not in ("0", "false", "off", "no")


def _context() -> Any:
    """The open context of the engine, or None."""
    from horovod.torch import mpi_ops

    basics = mpi_ops._basics
    return getattr(basics, "context", None)


def _item_size(dtype: torch.dtype) -> int:
    return torch.empty(0, dtype=dtype).element_size()


def _give_back(block: int, generation: int, context: Any, memory: memoryview) -> None:
    _blocks.discard(block)
    if generation == _generation:
        context.arena_free(memory)


def alloc(numel: int, dtype: torch.dtype) -> Optional[torch.Tensor]:
    """A 1-D tensor of `numel` zeros in the arena; None where there is no arena, or no room in it.

    Its memory returns to the arena with the last tensor that looks at it.
    """
    context = _context() if numel > 0 and enabled() else None
    memory = context.arena_alloc(numel * _item_size(dtype)) if context is not None else None
    if memory is None:
        return None
    # A memoryview tells nobody when it goes, and must be given back as itself; this buffer around it does tell.
    owner = (ctypes.c_char * memory.nbytes).from_buffer(memory)
    _blocks.add(id(owner))
    weakref.finalize(owner, _give_back, id(owner), _generation, context, memory).atexit = False
    return torch.frombuffer(owner, dtype=dtype, count=numel)


def register(tenant: Any) -> None:
    """`tenant.leave_arena()` is called before the memory goes; only a weak reference is kept."""
    _tenants.add(tenant)


def retire() -> int:
    """Move all gradients out of the arena: its context is about to close.

    The number of blocks that other tensors still look at is returned.  Their memory must stay mapped.
    """
    global _generation
    for tenant in list(_tenants):
        tenant.leave_arena()
    _generation += 1
    return len(_blocks)


def _dense(p: torch.Tensor) -> bool:
    """Whether the elements of `p` fill their memory without a gap or an overlap, in any order of dimensions."""
    expected = 1
    for stride, length in sorted((s, n) for s, n in zip(p.stride(), p.shape) if n != 1):
        if stride != expected:
            return False
        expected *= length
    return True


class Gradients:
    """Places in the arena for the gradients of parameters: objects with `param`, and `view`, which is set here.

    `view` is the place in the shape and the layout of the parameter, or None.  The order of the places is the
    reverse of the order given, which is about the order in which backward fills them.
    """

    def __init__(self, slots: Iterable[Any]) -> None:
        self._slots: List[Any] = list(slots)
        self._blocks: List[torch.Tensor] = []
        self._tried = -1        # the generation in which the places were asked for
        for slot in self._slots:
            slot.view = None
        register(self)

    def __len__(self) -> int:
        return len(self._blocks)

    def place(self) -> None:
        """Ask for memory once in the life of a context, and set each view."""
        if self._tried == _generation:
            return
        self._tried = _generation
        if not enabled():
            return
        sizes: Dict[torch.dtype, int] = {}
        places = []
        for slot in reversed(self._slots):
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
                slot.view = block.as_strided(slot.param.shape, slot.param.stride(), start)
        self._blocks = [block for block in blocks.values() if block is not None]

    def zero(self) -> None:
        """Zero every place: one pass over one block per dtype."""
        for block in self._blocks:
            block.zero_()

    def leave_arena(self) -> None:
        """Give every gradient that is in the arena memory of its own, and forget the places."""
        for slot in self._slots:
            if slot.view is not None and slot.param.grad is slot.view:
                slot.param.grad = slot.view.clone()
            slot.view = None
        self._blocks = []
