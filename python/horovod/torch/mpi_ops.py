"""The operations on tensors.

Each operation comes in up to four forms: `x` waits and returns a new tensor (and takes part in autograd), `x_` works in
place, and `x_async` and `x_async_` return a handle for `poll` and `synchronize`. A name pairs the calls of different
ranks, in whatever order they come; calls without one are paired by their order.

    pending     an operation on its way: its calls to the engine, and what becomes of their results
"""
import itertools
import time
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

import torch

from horovod import _coll
from horovod.common.basics import _basics
from horovod.common.exceptions import HorovodInternalError
from horovod.common.metrics import metrics
from horovod.common.process_sets import ProcessSet, add_process_set, global_process_set, remove_process_set
from horovod.common.util import get_average_backwards_compatibility_fun, gpu_available, num_rank_is_power_2
from horovod.torch import device
from horovod.torch.compression import Compression

Average = _coll.AVERAGE
Sum = _coll.SUM
Adasum = _coll.ADASUM
Min = _coll.MIN
Max = _coll.MAX
Product = _coll.PRODUCT

init = _basics.init
shutdown = _basics.shutdown
is_initialized = _basics.is_initialized
start_timeline = _basics.start_timeline
stop_timeline = _basics.stop_timeline
size = _basics.size
local_size = _basics.local_size
cross_size = _basics.cross_size
rank = _basics.rank
local_rank = _basics.local_rank
cross_rank = _basics.cross_rank
is_homogeneous = _basics.is_homogeneous
mpi_threads_supported = _basics.mpi_threads_supported
mpi_enabled = _basics.mpi_enabled
mpi_built = _basics.mpi_built
gloo_enabled = _basics.gloo_enabled
gloo_built = _basics.gloo_built
nccl_built = _basics.nccl_built
ddl_built = _basics.ddl_built
ccl_built = _basics.ccl_built
cuda_built = _basics.cuda_built
rocm_built = _basics.rocm_built


class _ReduceOps:
    Average, Sum = Average, Sum


handle_average_backwards_compatibility = get_average_backwards_compatibility_fun(_ReduceOps)

_TYPES = {getattr(torch, name): number for name, number in _coll.DTYPE_NUMBERS.items()}

Tensors = Sequence[torch.Tensor]
Finish = Callable[[List[Any]], Any]     # the results of the engine's calls -> what synchronize() returns


# ---- handles ----

POLL_SECONDS = 0.001


class _Pending:
    """calls: (engine's handle, what its memory must be kept alive by, bytes of a row of each tensor that comes back)."""
    __slots__ = ("context", "calls", "finish", "begun")

    def __init__(self, context: Any, finish: Optional[Finish]) -> None:
        self.context, self.finish, self.begun = context, finish, time.monotonic()
        self.calls: List[Tuple[int, Any, Tuple[int, ...]]] = []

    def wait(self) -> Any:
        results = []
        try:
            while self.calls:
                results.append(self.context.wait(*self.calls[0]))
                del self.calls[0]
        except (HorovodInternalError, ValueError):
            self._drain()
            raise
        except BaseException:   # interrupted: the engine goes on, and so must the memory that it uses
            _add(self)
            raise
        return self.finish(results) if self.finish is not None else None

    def _drain(self) -> None:
        """After the failure of one call, wait for the others: their memory is in use until they are over."""
        for call in self.calls[1:]:
            try:
                self.context.wait(*call)
            except (HorovodInternalError, ValueError):
                pass
        self.calls.clear()


_pending: Dict[int, _Pending] = {}
_numbers = itertools.count(1)


def _add(pending: _Pending) -> int:
    handle = next(_numbers)
    _pending[handle] = pending
    return handle


def poll(handle: int) -> bool:
    """Whether the operation is over, so that synchronize() would return at once; never within its first millisecond.

    A script that polls at once expects "not yet": Horovod looks at submissions a millisecond later at the soonest.
    """
    pending = _pending.get(handle)
    if pending is None:
        raise ValueError("there is no operation with the handle %r" % (handle,))
    done = all([pending.context.poll(call[0]) for call in pending.calls])
    return done and time.monotonic() - pending.begun >= POLL_SECONDS


def synchronize(handle: int) -> Any:
    """Wait for an operation and return its output; None for a handle that is not known (any more)."""
    pending = _pending.pop(handle, None)
    return pending.wait() if pending is not None else None


# ---- arguments ----

def _type(tensor: torch.Tensor) -> int:
    """The engine's number of its type; ValueError for a tensor that cannot be sent."""
    number = _TYPES.get(tensor.dtype)
    if number is None or tensor.layout is not torch.strided:
        raise ValueError("Tensor type %s is not supported." % tensor.type())
    if not tensor.is_contiguous():
        raise ValueError("Tensor is required to be contiguous.")
    return number


def _set_id(process_set: ProcessSet) -> int:
    number = process_set.process_set_id
    if number is None:
        raise ValueError("the process set %r is not registered: use hvd.init(process_sets=[...]) or hvd.add_process_set()"
                         % (process_set,))
    return number


def _member(process_set: ProcessSet) -> Tuple[int, int]:
    """(this rank's number in the set, its size); ValueError for a rank that does not belong to it."""
    number = process_set.rank()
    if number is None:
        raise ValueError("this rank is not a member of the process set %r" % (process_set,))
    return number, len(process_set.ranks)


def _name(kind: str, name: Optional[str]) -> Optional[str]:
    return None if name is None else "%s.%s" % (kind, name)


def _one(source: torch.Tensor, out: torch.Tensor) -> Tuple[Any, ...]:
    return (source.data_ptr(), source.numel(), source.shape, out.data_ptr(), out.numel())


def _input(source: torch.Tensor) -> Tuple[Any, ...]:
    return (source.data_ptr(), source.numel(), source.shape, 0, 0)


def _row_bytes(tensor: torch.Tensor) -> int:
    n = tensor.element_size()
    for length in tensor.shape[1:]:
        n *= length
    return n


def _differentiable(tensor: torch.Tensor) -> bool:
    return tensor.requires_grad and torch.is_grad_enabled()


def _check_adasum(op: int, process_set: ProcessSet) -> None:
    if op != Adasum:
        return
    if process_set is not global_process_set:
        raise NotImplementedError("Adasum does not support non-global process sets.")
    if not num_rank_is_power_2(size()):
        raise NotImplementedError("Running Adasum with a number of ranks that is no power of 2 is not supported.")


def _by_type(tensors: Tensors) -> List[Tuple[int, List[int]]]:
    """(type, positions) of a group: one call to the engine for each type."""
    parts: Dict[int, List[int]] = {}
    for i, tensor in enumerate(tensors):
        parts.setdefault(_type(tensor), []).append(i)
    return list(parts.items())


def _check_group(tensors: Any) -> List[torch.Tensor]:
    tensors = list(tensors)
    if not tensors:
        raise ValueError("a group of no tensors cannot be submitted")
    if len({t.device for t in tensors}) > 1:
        raise HorovodInternalError("the tensors of a group are on several devices: %s"
                                   % ", ".join(sorted({str(t.device) for t in tensors})))
    return tensors


def _part_name(kind: str, name: Optional[str], n: int, part: int) -> Optional[str]:
    """The name of a group of n tensors, as its first member's: several types make several calls."""
    return None if name is None else "%s.%s_%dof%d" % (kind, name, part + 1, n)


# ---- allreduce ----

def _submit_reduction(kind: int, word: str, inputs: Tensors, outputs: Tensors, group: bool, name: Optional[str], op: int,
                      prescale: float, postscale: float, process_set: ProcessSet, single: bool) -> int:
    """Begin allreduces or reducescatters of a list: inputs[i] to outputs[i], which may be the same."""
    context = _basics.engine()
    set_id = _set_id(process_set)
    _check_adasum(op, process_set)
    if kind == _coll.REDUCESCATTER and op not in (Average, Sum):
        raise HorovodInternalError("reducescatter adds or averages (op=hvd.Sum, hvd.Average); op %r was given" % (op,))
    parts = _by_type(inputs)
    for out in outputs:
        _type(out)
    sources = [device.for_engine(context, t) for t in inputs]
    ready = device.ready(sources[0])
    targets = []
    for tensor, source, out in zip(inputs, sources, outputs):
        if source is tensor:
            targets.append(out)
        else:
            targets.append(source if out.shape == tensor.shape else device.empty_host(out))

    def finish(results: List[Any]) -> Any:
        for target, out in zip(targets, outputs):
            if target is not out:
                out.copy_(target)
        return outputs[0] if single else list(outputs)

    pending = _Pending(context, finish)
    try:
        for i, (dtype, places) in enumerate(parts):
            called = _part_name(word, name, len(inputs), places[0]) if group else _name(word, name)
            handle = context.submit(kind, called, set_id, dtype, op, prescale, postscale, 0,
                                    tuple(_one(sources[k], targets[k]) for k in places), None, None, None, ready.gpu, ready.handle)
            pending.calls.append((handle, (sources, targets, ready), ()))
    except BaseException:
        if pending.calls:       # what is on its way keeps its memory
            _add(pending)
        raise
    return _add(pending)


def _allreduce_now(tensor: torch.Tensor, out: torch.Tensor, name: Optional[str], op: int, prescale: float, postscale: float,
                   process_set: ProcessSet) -> torch.Tensor:
    """The shortest way: one call of the engine that submits and waits."""
    if tensor.device.type != "cpu" or op == Adasum:
        return synchronize(_submit_reduction(_coll.ALLREDUCE, "allreduce", (tensor,), (out,), False, name, op, prescale, postscale,
                                             process_set, True))
    _basics.engine().do(_coll.ALLREDUCE, None if name is None else "allreduce." + name, _set_id(process_set), _type(tensor), op,
                        prescale, postscale, 0, (_one(tensor, out),), None, None, (tensor, out))
    return out


class _Allreduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, name: Optional[str], op: int, prescale: float, postscale: float,
                process_set: ProcessSet) -> torch.Tensor:
        ctx.rest = (op, prescale, postscale, process_set)
        return _allreduce_now(tensor, torch.empty_like(tensor), name, op, prescale, postscale, process_set)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        op, prescale, postscale, process_set = ctx.rest
        reduced = allreduce(grad.contiguous(), op=op, prescale_factor=prescale, postscale_factor=postscale, process_set=process_set)
        return (reduced,) + (None,) * 5


def allreduce(tensor: torch.Tensor, average: Optional[bool] = None, name: Optional[str] = None,
              compression: Any = Compression.none, op: Optional[int] = None, prescale_factor: float = 1.0,
              postscale_factor: float = 1.0, process_set: ProcessSet = global_process_set) -> torch.Tensor:
    """The average (or what `op` says) of `tensor` over all ranks, as a new tensor.

    op: Average, Sum, Min, Max, Product or Adasum; `average` is its older form
    compression: how it travels, see hvd.Compression
    prescale_factor, postscale_factor: multiply it before and after
    The gradient is the same allreduce of the output's gradient.
    """
    op = handle_average_backwards_compatibility(op, average)
    sent, ctx = compression.compress(tensor)
    if _differentiable(sent):
        out = _Allreduce.apply(sent, name, op, prescale_factor, postscale_factor, process_set)
    else:
        _type(sent)
        out = _allreduce_now(sent, torch.empty_like(sent), name, op, prescale_factor, postscale_factor, process_set)
    return compression.decompress(out, ctx)


def allreduce_async(tensor: torch.Tensor, average: Optional[bool] = None, name: Optional[str] = None, op: Optional[int] = None,
                    prescale_factor: float = 1.0, postscale_factor: float = 1.0,
                    process_set: ProcessSet = global_process_set) -> int:
    """As allreduce(); returns a handle. `tensor` must not be changed until synchronize() has returned."""
    op = handle_average_backwards_compatibility(op, average)
    _type(tensor)
    return _submit_reduction(_coll.ALLREDUCE, "allreduce", (tensor,), (torch.empty_like(tensor),), False, name, op, prescale_factor,
                             postscale_factor, process_set, True)


def allreduce_(tensor: torch.Tensor, average: Optional[bool] = None, name: Optional[str] = None, op: Optional[int] = None,
               prescale_factor: float = 1.0, postscale_factor: float = 1.0,
               process_set: ProcessSet = global_process_set) -> torch.Tensor:
    """As allreduce(), in place."""
    op = handle_average_backwards_compatibility(op, average)
    return _allreduce_now(tensor, tensor, name, op, prescale_factor, postscale_factor, process_set)


def allreduce_async_(tensor: torch.Tensor, average: Optional[bool] = None, name: Optional[str] = None, op: Optional[int] = None,
                     prescale_factor: float = 1.0, postscale_factor: float = 1.0,
                     process_set: ProcessSet = global_process_set) -> int:
    """As allreduce_(); returns a handle."""
    op = handle_average_backwards_compatibility(op, average)
    return _submit_reduction(_coll.ALLREDUCE, "allreduce", (tensor,), (tensor,), False, name, op, prescale_factor, postscale_factor,
                             process_set, True)


class Repeated:
    """An allreduce in place of one CPU tensor that is made in every step: its arguments are worked out once.

    begin() submits it, and a call of the object waits and returns the tensor. It belongs to the engine that was open
    when it was made, and the memory of the tensor must stay where it is.
    """
    __slots__ = ("_context", "_tensor", "_arguments", "_handle")

    def __init__(self, tensor: torch.Tensor, name: Optional[str] = None, op: int = Average, prescale_factor: float = 1.0,
                 postscale_factor: float = 1.0, process_set: ProcessSet = global_process_set) -> None:
        _check_adasum(op, process_set)
        self._context, self._tensor, self._handle = _basics.engine(), tensor, 0
        self._arguments = (_coll.ALLREDUCE, _name("allreduce", name), _set_id(process_set), _type(tensor), op, prescale_factor,
                           postscale_factor, 0, (_one(tensor, tensor),))

    def begin(self) -> None:
        """Submit it."""
        self._handle = self._context.submit(*self._arguments)

    def __call__(self) -> torch.Tensor:
        self._context.wait(self._handle, self._tensor, ())
        return self._tensor


class _GroupedAllreduce(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, name: Optional[str], op: int, prescale: float, postscale: float, process_set: ProcessSet,
                *tensors: torch.Tensor) -> Any:
        ctx.rest = (op, prescale, postscale, process_set)
        return tuple(synchronize(grouped_allreduce_async(tensors, None, name, op, prescale, postscale, process_set)))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        op, prescale, postscale, process_set = ctx.rest
        reduced = grouped_allreduce([g.contiguous() for g in grads], op=op, prescale_factor=prescale, postscale_factor=postscale,
                                    process_set=process_set)
        return (None,) * 5 + tuple(reduced)


def grouped_allreduce(tensors: Tensors, average: Optional[bool] = None, name: Optional[str] = None,
                      compression: Any = Compression.none, op: Optional[int] = None, prescale_factor: float = 1.0,
                      postscale_factor: float = 1.0, process_set: ProcessSet = global_process_set) -> List[torch.Tensor]:
    """allreduce() of a list of tensors of one device, which start and end as one."""
    op = handle_average_backwards_compatibility(op, average)
    pairs = [compression.compress(t) for t in tensors]
    sent = [t for t, _ in pairs]
    if any(_differentiable(t) for t in sent):
        outs = _GroupedAllreduce.apply(name, op, prescale_factor, postscale_factor, process_set, *sent)
    else:
        outs = synchronize(grouped_allreduce_async(sent, None, name, op, prescale_factor, postscale_factor, process_set))
    return [compression.decompress(out, ctx) for out, (_, ctx) in zip(outs, pairs)]


def grouped_allreduce_async(tensors: Tensors, average: Optional[bool] = None, name: Optional[str] = None, op: Optional[int] = None,
                            prescale_factor: float = 1.0, postscale_factor: float = 1.0,
                            process_set: ProcessSet = global_process_set) -> int:
    """As grouped_allreduce(); returns one handle."""
    op = handle_average_backwards_compatibility(op, average)
    tensors = _check_group(tensors)
    for tensor in tensors:
        _type(tensor)
    return _submit_reduction(_coll.ALLREDUCE, "allreduce", tensors, [torch.empty_like(t) for t in tensors], True, name, op,
                             prescale_factor, postscale_factor, process_set, False)


def grouped_allreduce_(tensors: Tensors, average: Optional[bool] = None, name: Optional[str] = None, op: Optional[int] = None,
                       prescale_factor: float = 1.0, postscale_factor: float = 1.0,
                       process_set: ProcessSet = global_process_set) -> List[torch.Tensor]:
    """As grouped_allreduce(), in place."""
    return synchronize(grouped_allreduce_async_(tensors, average, name, op, prescale_factor, postscale_factor, process_set))


def grouped_allreduce_async_(tensors: Tensors, average: Optional[bool] = None, name: Optional[str] = None,
                             op: Optional[int] = None, prescale_factor: float = 1.0, postscale_factor: float = 1.0,
                             process_set: ProcessSet = global_process_set) -> int:
    """As grouped_allreduce_(); returns one handle."""
    op = handle_average_backwards_compatibility(op, average)
    tensors = _check_group(tensors)
    return _submit_reduction(_coll.ALLREDUCE, "allreduce", tensors, tensors, True, name, op, prescale_factor, postscale_factor,
                             process_set, False)


def sparse_allreduce_async(tensor: torch.Tensor, name: Optional[str] = None, op: Optional[int] = None,
                           process_set: ProcessSet = global_process_set) -> Callable[[], torch.Tensor]:
    """Begin the sum or average of COO tensors; what is returned waits for it when it is called, and gives the tensor."""
    op = Average if op is None else op
    if op not in (Average, Sum):
        raise ValueError("sparse tensors can be added or averaged (op=hvd.Sum, hvd.Average); op %r was given" % (op,))
    if tensor.layout is not torch.sparse_coo:
        raise ValueError("sparse_allreduce_async() takes a tensor of the layout torch.sparse_coo, not %s" % (tensor.layout,))
    indices = allgather_async(tensor._indices().t().contiguous(), None if name is None else name + ".indices", process_set)
    values = allgather_async(tensor._values().contiguous(), None if name is None else name + ".values", process_set)

    def wait() -> torch.Tensor:
        all_values, all_indices = synchronize(values), synchronize(indices)
        if op == Average:
            n = process_set.size()
            all_values = all_values / n if all_values.dtype.is_floating_point else \
                torch.div(all_values, n, rounding_mode="trunc")
        return torch.sparse_coo_tensor(all_indices.t(), all_values, tensor.shape)

    return wait


# ---- allgather ----

def _adopt(block: Any, like: torch.Tensor, shape: Sequence[int]) -> torch.Tensor:
    """A tensor on the memory of a block of the engine."""
    count = 1
    for length in shape:
        count *= length
    if count == 0:
        return like.new_empty(tuple(shape))
    return device.adopt(block, like, count).reshape(tuple(shape))


def _submit_allgather(tensors: Tensors, group: bool, name: Optional[str], process_set: ProcessSet, single: bool) -> int:
    """Begin an allgather of a list; synchronize() gives [(output, rows of each rank)]."""
    context = _basics.engine()
    set_id = _set_id(process_set)
    parts = _by_type(tensors)
    for tensor in tensors:
        if tensor.dim() == 0:
            raise IndexError("a scalar has no first dimension to be gathered along: allgather takes tensors of one and more")
    sources = [device.for_engine(context, t) for t in tensors]
    ready = device.ready(sources[0])

    def finish(results: List[Any]) -> Any:
        outputs: List[Any] = [None] * len(tensors)
        for (_, places), (blocks, rows) in zip(parts, results):
            each = len(rows) // len(places)
            for i, place in enumerate(places):
                mine = rows[i * each:(i + 1) * each]
                outputs[place] = (_adopt(blocks[i], tensors[place], (sum(mine),) + tuple(tensors[place].shape[1:])), mine)
        return outputs

    pending = _Pending(context, finish if not single else lambda results: finish(results)[0][0])
    for dtype, places in parts:
        called = _part_name("allgather", name, len(tensors), places[0]) if group else _name("allgather", name)
        handle = context.submit(_coll.ALLGATHER, called, set_id, dtype, Sum, 1.0, 1.0, 0,
                                tuple(_input(sources[k]) for k in places), None, None, None, ready.gpu, ready.handle)
        pending.calls.append((handle, (sources, ready), tuple(_row_bytes(sources[k]) for k in places)))
    return _add(pending)


def _slices_of_average(grads: Tensors, rows: Sequence[Sequence[int]], process_set: ProcessSet) -> List[torch.Tensor]:
    """The gradients of gathered tensors: the average of the outputs' gradients, of which this rank's rows are cut out."""
    mine, _ = _member(process_set)
    reduced = grouped_allreduce([g.contiguous() for g in grads], op=Average, process_set=process_set)
    return [r.narrow(0, sum(n[:mine]), n[mine]) for r, n in zip(reduced, rows)]


class _Allgather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, group: bool, name: Optional[str], process_set: ProcessSet, *tensors: torch.Tensor) -> Any:
        results = synchronize(_submit_allgather(tensors, group, name, process_set, False))
        ctx.rest = ([rows for _, rows in results], process_set)
        return tuple(output for output, _ in results)

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        rows, process_set = ctx.rest
        return (None,) * 3 + tuple(_slices_of_average(grads, rows, process_set))


def allgather(tensor: torch.Tensor, name: Optional[str] = None, process_set: ProcessSet = global_process_set) -> torch.Tensor:
    """The tensors of all ranks, joined on the first dimension, which may differ between ranks.

    The gradient is this rank's part of the average of the output's gradients.
    """
    if _differentiable(tensor):
        return _Allgather.apply(False, name, process_set, tensor)[0]
    return synchronize(_submit_allgather((tensor,), False, name, process_set, True))


def allgather_async(tensor: torch.Tensor, name: Optional[str] = None, process_set: ProcessSet = global_process_set) -> int:
    """As allgather(); returns a handle."""
    return _submit_allgather((tensor,), False, name, process_set, True)


def grouped_allgather(tensors: Tensors, name: Optional[str] = None,
                      process_set: ProcessSet = global_process_set) -> List[torch.Tensor]:
    """allgather() of a list of tensors of one device, which start and end as one."""
    tensors = _check_group(tensors)
    if any(_differentiable(t) for t in tensors):
        return list(_Allgather.apply(True, name, process_set, *tensors))
    return synchronize(grouped_allgather_async(tensors, name, process_set))


def grouped_allgather_async(tensors: Tensors, name: Optional[str] = None, process_set: ProcessSet = global_process_set) -> int:
    """As grouped_allgather(); returns one handle."""
    handle = _submit_allgather(_check_group(tensors), True, name, process_set, False)
    pending = _pending[handle]
    inner = pending.finish
    pending.finish = lambda results: [output for output, _ in inner(results)]
    return handle


# ---- broadcast ----

def _submit_broadcast(tensor: torch.Tensor, out: torch.Tensor, root_rank: int, name: Optional[str], process_set: ProcessSet) -> int:
    context = _basics.engine()
    set_id, dtype = _set_id(process_set), _type(tensor)
    _type(out)
    source = device.for_engine(context, tensor)
    target = out if source is tensor else source
    ready = device.ready(source)

    def finish(results: List[Any]) -> torch.Tensor:
        if target is not out:
            out.copy_(target)
        return out

    pending = _Pending(context, finish)
    handle = context.submit(_coll.BROADCAST, _name("broadcast", name), set_id, dtype, Sum, 1.0, 1.0, root_rank,
                            (_one(source, target),), None, None, None, ready.gpu, ready.handle)
    pending.calls.append((handle, (source, target, ready), ()))
    return _add(pending)


class _Broadcast(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, root_rank: int, name: Optional[str], process_set: ProcessSet) -> torch.Tensor:
        ctx.rest = (root_rank, process_set)
        return synchronize(_submit_broadcast(tensor, torch.empty_like(tensor), root_rank, name, process_set))

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        root_rank, process_set = ctx.rest
        reduced = allreduce(grad.contiguous(), op=Average, process_set=process_set)
        return (reduced if rank() == root_rank else torch.zeros_like(reduced),) + (None,) * 3


def broadcast(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None,
              process_set: ProcessSet = global_process_set) -> torch.Tensor:
    """The tensor of `root_rank`, a rank of the world in any process set, as a new tensor.

    The gradient is the average of the outputs' gradients on the root, and zero elsewhere.
    """
    if _differentiable(tensor):
        return _Broadcast.apply(tensor, root_rank, name, process_set)
    return synchronize(broadcast_async(tensor, root_rank, name, process_set))


def broadcast_async(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None,
                    process_set: ProcessSet = global_process_set) -> int:
    """As broadcast(); returns a handle."""
    _type(tensor)
    return _submit_broadcast(tensor, torch.empty_like(tensor), root_rank, name, process_set)


def broadcast_(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None,
               process_set: ProcessSet = global_process_set) -> torch.Tensor:
    """As broadcast(), in place."""
    return synchronize(_submit_broadcast(tensor, tensor, root_rank, name, process_set))


def broadcast_async_(tensor: torch.Tensor, root_rank: int, name: Optional[str] = None,
                     process_set: ProcessSet = global_process_set) -> int:
    """As broadcast_(); returns a handle."""
    return _submit_broadcast(tensor, tensor, root_rank, name, process_set)


# ---- alltoall ----

def _check_splits(tensor: torch.Tensor, splits: Any, n: int) -> Optional[Tuple[int, ...]]:
    """Rows for each of n ranks; None for even ones."""
    if tensor.dim() == 0:
        raise ValueError("a scalar has no first dimension to be split: alltoall takes tensors of one and more dimensions")
    rows = tensor.shape[0]
    if splits is None or (isinstance(splits, torch.Tensor) and splits.numel() == 0):
        if rows % n:
            raise ValueError("alltoall without splits: the first dimension is %d, which cannot be divided by the %d ranks" % (rows, n))
        return None
    if isinstance(splits, torch.Tensor):
        if splits.dtype is not torch.int32:
            raise ValueError("alltoall expects splits of the type torch.int32, not %s" % splits.dtype)
        if splits.dim() != 1:
            raise ValueError("alltoall expects splits of one dimension, not %d" % splits.dim())
        splits = splits.tolist()
    numbers = tuple(int(s) for s in splits)
    if len(numbers) != n:
        raise ValueError("alltoall: there are %d splits for %d ranks" % (len(numbers), n))
    if min(numbers) < 0 or sum(numbers) > rows:
        raise ValueError("alltoall: the splits %s do not fit a first dimension of %d" % (list(numbers), rows))
    return numbers


def _submit_alltoall(tensor: torch.Tensor, splits: Any, name: Optional[str], process_set: ProcessSet) -> int:
    """synchronize() gives (output, rows received from each rank)."""
    context = _basics.engine()
    set_id, dtype = _set_id(process_set), _type(tensor)
    numbers = _check_splits(tensor, splits, _member(process_set)[1])
    source = device.for_engine(context, tensor)
    ready = device.ready(source)

    def finish(results: List[Any]) -> Any:
        (block,), rows = results[0]
        return (_adopt(block, tensor, (sum(rows),) + tuple(tensor.shape[1:])), torch.tensor(rows, dtype=torch.int32))

    pending = _Pending(context, finish)
    handle = context.submit(_coll.ALLTOALL, _name("alltoall", name), set_id, dtype, Sum, 1.0, 1.0, 0, (_input(source),), numbers,
                            None, None, ready.gpu, ready.handle)
    pending.calls.append((handle, (source, ready), (_row_bytes(source),)))
    return _add(pending)


class _Alltoall(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: torch.Tensor, splits: Any, name: Optional[str], process_set: ProcessSet) -> Any:
        output, received = synchronize(_submit_alltoall(tensor, splits, name, process_set))
        ctx.rest = (received, process_set)
        ctx.mark_non_differentiable(received)
        return output, received

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor, _: Any) -> Any:
        received, process_set = ctx.rest
        back, _ = synchronize(_submit_alltoall(grad.contiguous(), received, None, process_set))
        return (back,) + (None,) * 3


def alltoall(tensor: torch.Tensor, splits: Union[None, Sequence[int], torch.Tensor] = None, name: Optional[str] = None,
             process_set: ProcessSet = global_process_set) -> Any:
    """Send rows of `tensor` to every rank and return what came from them, in the order of the ranks.

    splits: rows for each rank, an int32 tensor or a list; the result is then (output, received splits). Without it
    the first dimension is divided evenly, and the result is the output alone.
    """
    if _differentiable(tensor):
        output, received = _Alltoall.apply(tensor, splits, name, process_set)
    else:
        output, received = synchronize(_submit_alltoall(tensor, splits, name, process_set))
    return output if splits is None else (output, received)


def alltoall_async(tensor: torch.Tensor, splits: Union[None, Sequence[int], torch.Tensor] = None, name: Optional[str] = None,
                   process_set: ProcessSet = global_process_set) -> int:
    """As alltoall(); returns a handle, of which synchronize() makes (output, received splits) in any case."""
    return _submit_alltoall(tensor, splits, name, process_set)


# ---- reducescatter ----

def _scattered(tensor: torch.Tensor, process_set: ProcessSet) -> torch.Tensor:
    """Memory for this rank's rows: the first ranks have one more where the first dimension does not come out even."""
    _type(tensor)
    if tensor.dim() == 0:
        raise ValueError("a scalar has no first dimension to be scattered: reducescatter takes tensors of one and more")
    mine, n = _member(process_set)
    rows, more = divmod(tensor.shape[0], n)
    return tensor.new_empty((rows + (mine < more),) + tuple(tensor.shape[1:]))


def _submit_reducescatter(tensors: Tensors, group: bool, name: Optional[str], op: int, prescale: float, postscale: float,
                          process_set: ProcessSet, single: bool) -> int:
    _basics.engine()
    _set_id(process_set)
    return _submit_reduction(_coll.REDUCESCATTER, "reducescatter", tensors, [_scattered(t, process_set) for t in tensors], group,
                             name, op, prescale, postscale, process_set, single)


class _Reducescatter(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, group: bool, name: Optional[str], op: int, prescale: float, postscale: float, process_set: ProcessSet,
                *tensors: torch.Tensor) -> Any:
        ctx.rest = (op, prescale * postscale, process_set)
        return tuple(synchronize(_submit_reducescatter(tensors, group, name, op, prescale, postscale, process_set, False)))

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        op, scale, process_set = ctx.rest
        scale *= process_set.size() if op == Sum else 1
        if scale != 1:
            grads = tuple(g * scale for g in grads)
        return (None,) * 6 + tuple(grouped_allgather([g.contiguous() for g in grads], process_set=process_set))


def reducescatter(tensor: torch.Tensor, name: Optional[str] = None, compression: Any = Compression.none,
                  op: int = Average, process_set: ProcessSet = global_process_set, prescale_factor: float = 1.0,
                  postscale_factor: float = 1.0) -> torch.Tensor:
    """Average or add (op=hvd.Sum) over all ranks; each rank gets its part of the first dimension of the result."""
    return grouped_reducescatter([tensor], name, compression, op, process_set, prescale_factor, postscale_factor, _group=False)[0]


def reducescatter_async(tensor: torch.Tensor, name: Optional[str] = None, op: int = Average,
                        process_set: ProcessSet = global_process_set, prescale_factor: float = 1.0,
                        postscale_factor: float = 1.0) -> int:
    """As reducescatter(); returns a handle."""
    return _submit_reducescatter((tensor,), False, name, op, prescale_factor, postscale_factor, process_set, True)


def grouped_reducescatter(tensors: Tensors, name: Optional[str] = None, compression: Any = Compression.none, op: int = Average,
                          process_set: ProcessSet = global_process_set, prescale_factor: float = 1.0,
                          postscale_factor: float = 1.0, _group: bool = True) -> List[torch.Tensor]:
    """reducescatter() of a list of tensors of one device, which start and end as one."""
    pairs = [compression.compress(t) for t in _check_group(tensors)]
    sent = [t for t, _ in pairs]
    if any(_differentiable(t) for t in sent):
        outs = _Reducescatter.apply(_group, name, op, prescale_factor, postscale_factor, process_set, *sent)
    else:
        outs = synchronize(_submit_reducescatter(sent, _group, name, op, prescale_factor, postscale_factor, process_set, False))
    return [compression.decompress(out, ctx) for out, (_, ctx) in zip(outs, pairs)]


def grouped_reducescatter_async(tensors: Tensors, name: Optional[str] = None, op: int = Average,
                                process_set: ProcessSet = global_process_set, prescale_factor: float = 1.0,
                                postscale_factor: float = 1.0) -> int:
    """As grouped_reducescatter(); returns one handle."""
    return _submit_reducescatter(_check_group(tensors), True, name, op, prescale_factor, postscale_factor, process_set, False)


# ---- the ends of data ----

def join(device: int = -1) -> int:
    """Wait until every rank has joined, taking part in their allreduces with zeros; the rank that joined last.

    device: of no consequence here
    """
    return _basics.engine().do(_coll.JOIN, None, 0, 0, Sum, 1.0, 1.0, 0, ())


def barrier(process_set: ProcessSet = global_process_set) -> None:
    """Wait until every rank of the set is here."""
    _basics.engine().do(_coll.BARRIER, None, _set_id(process_set), 0, Sum, 1.0, 1.0, 0, ())
