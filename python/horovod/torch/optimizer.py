"""DistributedOptimizer: an optimizer whose gradients are reduced over all ranks while backward still runs.

The class of the result is a subclass, made at run time, of the class of the optimizer given, and shares its parameter
groups and its state: `isinstance`, learning rate schedulers and checkpoints work as before.  A hook on every parameter
submits the gradient as soon as it is there; `step()` waits for all of them.

Gradients of dense parameters on the CPU live in the engine's shared arena (see arena.py), where reducing them copies
nothing.  Two things can be seen of that: `zero_grad(set_to_none=True)` of this optimizer zeroes such gradients and
keeps them, and a gradient that was dropped by `model.zero_grad()` costs one copy when it comes back.

A copy (`copy.deepcopy`) or a pickle of a distributed optimizer is the plain optimizer underneath, with its state.
"""
import os
import warnings
import weakref
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple, Union

import torch

from horovod.common import metrics
from horovod.torch import arena
from horovod.torch.compression import Compression
from horovod.torch.functions import broadcast_object
from horovod.torch.mpi_ops import (Adasum, Average, Repeated, allreduce, allreduce_async_, global_process_set,
                                   grouped_allreduce_async_, size, sparse_allreduce_async, synchronize)

TOO_MANY_PASSES = ("Gradients were computed more than backward_passes_per_step times before call to step(). "
                   "Increase backward_passes_per_step to accumulate gradients locally.")
ZERO_TOO_EARLY = ("optimizer.zero_grad() was called after loss.backward() but before optimizer.step() or "
                  "optimizer.synchronize(). This is prohibited: the gradients are being reduced.")
REDUCED_TWICE = ("optimizer.step() called without optimizer.skip_synchronize() context after "
                 "optimizer.synchronize(). The gradients are reduced a second time. Call step() inside "
                 "`with optimizer.skip_synchronize():` after synchronize().")


class _Slot(arena.Place):
    """A parameter and where its gradient is on the way."""
    __slots__ = ("name", "left", "sent", "repeat", "sparse_dim", "group", "hook")

    def __init__(self, param: torch.Tensor, name: str, passes: int) -> None:
        super().__init__(param)
        self.name = name
        self.left = passes      # backward passes until the gradient is sent
        self.sent = False       # submitted since the last synchronize()
        self.repeat: Optional[Repeated] = None      # the allreduce of the place
        self.sparse_dim: Optional[int] = None       # of the last gradient, when that was sparse
        self.group: Optional[_Group] = None
        self.hook: Any = None

    def set(self, place: Optional[torch.Tensor]) -> None:
        super().set(place)
        self.repeat = None


class _Group:
    """Parameters of one dtype and device whose gradients are submitted as one."""
    __slots__ = ("slots", "ready")

    def __init__(self, slots: List[_Slot]) -> None:
        self.slots, self.ready = slots, 0


def _on_gradient(param: torch.Tensor, hook: Callable[..., None]) -> Any:
    """Call `hook` whenever autograd has added to `param.grad`; what is returned keeps the hook alive."""
    if hasattr(param, "register_post_accumulate_grad_hook"):
        return param.register_post_accumulate_grad_hook(hook)
    node = param.expand_as(param).grad_fn.next_functions[0][0]
    return node, node.register_hook(hook)


def _make_hook(owner: "weakref.ref[Any]", slot: _Slot) -> Callable[..., None]:
    """The hook of one parameter.  It outlives the optimizer, and then does nothing: a model may be wrapped again."""
    def hook(*_: Any) -> None:
        optimizer = owner()
        if optimizer is not None:
            optimizer._gradient_ready(slot)
    return hook


def _check_names(named_parameters: List[Any], param_groups: Sequence[Dict[str, Any]]) -> None:
    if any(not isinstance(p, tuple) or len(p) != 2 for p in named_parameters):
        raise ValueError("named_parameters should be a sequence of tuples (name, parameter), usually produced by "
                         "model.named_parameters().")
    names = [name for name, _ in named_parameters]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        raise ValueError("Parameter names in named_parameters must be unique. Found duplicates: %s" % ", ".join(twice))
    named = {id(p) for _, p in named_parameters}
    unnamed = [p for group in param_groups for p in group["params"] if id(p) not in named]
    if unnamed:
        raise ValueError("named_parameters was specified, but one or more model parameters were not named. "
                         "Shapes of those without a name: %s"
                         % ", ".join(str(tuple(p.shape)) for p in unnamed[:8]))


def _check_groups(groups: Any) -> None:
    if groups is None:
        return
    if isinstance(groups, int) and not isinstance(groups, bool) and groups >= 0:
        return
    if not isinstance(groups, (list, tuple)):
        raise ValueError("groups should be a non-negative integer or a list of lists of torch.Tensor.")
    seen = set()
    for group in groups:
        if not isinstance(group, (list, tuple)) or any(not isinstance(p, torch.Tensor) for p in group):
            raise ValueError("groups must consist of lists of torch.Tensor.")
        for p in group:
            if id(p) in seen:
                raise ValueError("A parameter can only appear once in groups.")
            seen.add(id(p))


class _Hooked:
    """What both kinds of distributed optimizer have; its members are put into the class made at run time.

    They call the user's class as `self._wrapped`, never by super(): `super(type(self), self)` from outside is the plain
    optimizer, as Horovod's users know it.
    """
    _wrapped: Any = None
    _slots: Dict[int, _Slot]

    def _set_up(self, named_parameters: Optional[Iterable[Tuple[str, torch.Tensor]]], compression: Any,
                backward_passes_per_step: int, op: int, process_set: Any) -> None:
        self._compression, self.op, self.process_set = compression, op, process_set
        self.backward_passes_per_step = backward_passes_per_step
        self._slots, self._places, self._in_flight, self._touched = {}, [], [], False
        self._should_synchronize, self._synchronized = True, False
        named = list(named_parameters) if named_parameters is not None else []
        if named:
            _check_names(named, self.param_groups)
        self._parameter_names = {p: name for name, p in named}
        self._name_parameters()
        self._hooked = bool(process_set.included()) and (size() > 1 or os.environ.get("HOROVOD_ELASTIC") == "1")
        if self._hooked:
            self._hook_parameters()

    def _name_parameters(self) -> None:
        for i, group in enumerate(self.param_groups):
            for j, p in enumerate(group["params"]):
                if p not in self._parameter_names:
                    self._parameter_names[p] = "allreduce.noname.%d.%d" % (i, j)

    def _hook_parameters(self) -> List[_Slot]:
        """Hook every parameter that wants a gradient and has no hook yet."""
        new = []
        owner = weakref.ref(self)
        for group in self.param_groups:
            for p in group["params"]:
                if p.requires_grad and id(p) not in self._slots:
                    slot = _Slot(p, self._parameter_names[p], self.backward_passes_per_step)
                    slot.hook = _on_gradient(p, _make_hook(owner, slot))
                    self._slots[id(p)] = slot
                    new.append(slot)
        if new:
            self._places.append(arena.Gradients(new))
        return new

    def _drop_hooks(self) -> None:
        for slot in self._slots.values():
            handle = slot.hook[1] if isinstance(slot.hook, tuple) else slot.hook
            handle.remove()
        self._slots = {}

    def _start_again(self) -> None:
        """Nothing is on the way any more."""
        self._in_flight, self._touched = [], False
        for slot in self._slots.values():
            slot.sent, slot.left = False, self.backward_passes_per_step
            if slot.group is not None:
                slot.group.ready = 0

    def _wait(self, receive: Callable[[_Slot, torch.Tensor, torch.Tensor, Any], None]) -> None:
        """Hand every result to `receive`.  The first error is raised when nothing is in flight any more."""
        error = None
        for handle, slots, sent, context in self._in_flight:
            try:
                result = handle() if callable(handle) else synchronize(handle)
            except Exception as e:
                error = error or e
                continue
            if isinstance(slots, _Slot):
                receive(slots, sent, result, context)
            else:
                for each in zip(slots, sent, result, context):
                    receive(*each)
        if error is not None:
            raise error

    def _gradient_ready(self, slot: _Slot) -> None:
        """Backward has added to the gradient of `slot`."""
        if slot.sent or slot.left <= 0:
            raise AssertionError(TOO_MANY_PASSES)
        if slot.param.grad.requires_grad:
            raise AssertionError("The gradient of %s is itself part of a graph (create_graph=True) and cannot be reduced "
                                 "in place." % slot.name)
        self._touched = True
        slot.left -= 1
        if slot.left == 0:
            self._send(slot)

    def set_backward_passes_per_step(self, passes: int) -> None:
        """How many backward passes are added up locally before a gradient is reduced."""
        self.backward_passes_per_step = passes
        for slot in self._slots.values():
            slot.left = passes

    def add_param_group(self, param_group: Dict[str, Any]) -> None:
        """As the optimizer's own; the new parameters are reduced too.  Call it on every rank."""
        self._wrapped.add_param_group(self, param_group)
        self._name_parameters()
        if self._hooked:
            self._hook_parameters()

    def load_state_dict(self, *args: Any, **kwargs: Any) -> None:
        """As the optimizer's own.  Gradients on the way are forgotten: this is how training goes back to a save."""
        self._start_again()
        self._synchronized, self._should_synchronize = False, True
        self._wrapped.load_state_dict(self, *args, **kwargs)

    def zero_grad(self, *args: Any, **kwargs: Any) -> None:
        """As the optimizer's own, but gradients in the arena are zeroed and stay, `set_to_none` or not."""
        if self._touched:
            raise AssertionError(ZERO_TOO_EARLY)
        kept = [slot for slot in self._slots.values() if slot.holds(slot.param.grad)]
        for slot in kept:
            slot.param.grad = None
        self._wrapped.zero_grad(self, *args, **kwargs)
        if kept:
            for places in self._places:
                places.zero()
        for slot in kept:
            slot.param.grad = slot.view()

    def __reduce_ex__(self, protocol: int) -> Any:
        return _new, (self._wrapped,), self._wrapped.__getstate__(self)

    def __del__(self) -> None:
        try:
            self._drop_hooks()
        except Exception:       # half-built, or at the end of the interpreter
            pass


class _Averaged(_Hooked):
    """Reduces gradients, then steps."""

    def _start(self, named_parameters: Any, compression: Any, backward_passes_per_step: int, op: int,
               gradient_predivide_factor: float, groups: Any, sparse_as_dense: bool, process_set: Any) -> None:
        self.sparse_as_dense, self._groups = sparse_as_dense, groups or None
        self._scale = {}
        if op == Average and gradient_predivide_factor != 1.0:
            self._scale = {"prescale_factor": 1.0 / gradient_predivide_factor,
                           "postscale_factor": gradient_predivide_factor}
        self._compress = compression is not Compression.none
        self._set_up(named_parameters, compression, backward_passes_per_step, op, process_set)

    def _hook_parameters(self) -> List[_Slot]:
        new = _Hooked._hook_parameters(self)
        if self._groups is not None and new:
            self._make_groups(new)
        return new

    def _make_groups(self, slots: List[_Slot]) -> None:
        """Put new parameters into groups; equal on all ranks, by the order that the first of them has."""
        names = broadcast_object([slot.name for slot in slots], root_rank=(self.process_set.ranks or [0])[0],
                                 process_set=self.process_set)
        place = {name: i for i, name in enumerate(names)}
        slots = sorted(slots, key=lambda slot: place[slot.name])
        if isinstance(self._groups, int):
            count = min(self._groups, len(slots))
            cuts = [i * len(slots) // count for i in range(count + 1)]
            groups = [slots[a:b] for a, b in zip(cuts, cuts[1:])]
        else:
            new = {id(slot.param): slot for slot in slots}
            groups = [[new.pop(id(p)) for p in group if id(p) in new] for group in self._groups]
            groups += [[slot] for slot in slots if id(slot.param) in new]
        for group in groups:
            kinds: Dict[Any, List[_Slot]] = {}
            for slot in group:
                kinds.setdefault((slot.param.dtype, slot.param.device), []).append(slot)
            for alike in kinds.values():
                if len(alike) > 1:
                    made = _Group(alike)
                    for slot in alike:
                        slot.group = made

    # ---- sending ----

    def _send(self, slot: _Slot) -> None:
        group = slot.group
        if group is None:
            self._submit(slot)
            return
        group.ready += 1
        if group.ready == len(group.slots):
            self._submit_group(group)

    def _tensor_to_send(self, slot: _Slot) -> torch.Tensor:
        """The gradient, in the arena where there is a place: contiguous, but for a sparse one."""
        grad = slot.param.grad
        if slot.holds(grad):
            return _contiguous(slot.place)
        if grad.is_sparse:
            if not self.sparse_as_dense:
                slot.sparse_dim = grad.sparse_dim()
                return grad
            grad = slot.param.grad = grad.to_dense()
        if self._has_place(slot):
            slot.place.copy_(grad)
            slot.param.grad = slot.view()
            return _contiguous(slot.place)
        return grad if grad.is_contiguous() else grad.contiguous()

    def _has_place(self, slot: _Slot) -> bool:
        """Whether the gradient has a place, and the parameter still is what it was when that was laid out."""
        if slot.place is None:
            for places in self._places:
                places.place()
        place, p = slot.place, slot.param
        return place is not None and place.dtype == p.dtype and place.shape == p.shape and p.device.type == "cpu"

    def _submit(self, slot: _Slot) -> None:
        tensor = self._tensor_to_send(slot)
        slot.sent = True
        if tensor.is_sparse:
            handle = sparse_allreduce_async(tensor, name=slot.name, op=self.op, process_set=self.process_set)
            self._in_flight.append((handle, slot, tensor, None))
            return
        context = None
        if self._compress:
            tensor, context = self._compression.compress(tensor)
        elif slot.holds(slot.param.grad):       # the same memory in every step
            if slot.repeat is None:
                slot.repeat = Repeated(tensor, name=slot.name, op=self.op, process_set=self.process_set, **self._scale)
            slot.repeat.begin()
            self._in_flight.append((slot.repeat, slot, tensor, None))
            return
        handle = allreduce_async_(tensor, name=slot.name, op=self.op, process_set=self.process_set, **self._scale)
        self._in_flight.append((handle, slot, tensor, context))

    def _submit_group(self, group: _Group) -> None:
        dense, tensors, contexts = [], [], []
        for slot in group.slots:
            if slot.param.grad.is_sparse and not self.sparse_as_dense:
                self._submit(slot)
                continue
            tensor, context = self._tensor_to_send(slot), None
            if self._compress:
                tensor, context = self._compression.compress(tensor)
            slot.sent = True
            dense.append(slot)
            tensors.append(tensor)
            contexts.append(context)
        if dense:
            handle = grouped_allreduce_async_(tensors, name=dense[0].name, op=self.op, process_set=self.process_set,
                                              **self._scale)
            self._in_flight.append((handle, dense, tensors, contexts))

    def _send_missing(self) -> List[_Slot]:
        """Submit what backward did not: other ranks may have those gradients.  Frozen parameters among them."""
        self._hook_parameters()
        frozen = []
        for slot in self._slots.values():
            if slot.sent:
                continue
            members = [slot] if slot.group is None else slot.group.slots
            for member in members:
                if member.param.grad is None:
                    self._zero_gradient(member)
                    if not member.param.requires_grad:
                        frozen.append(member)
            if slot.group is None:
                self._submit(slot)
            else:
                self._submit_group(slot.group)
        return frozen

    def _zero_gradient(self, slot: _Slot) -> None:
        p = slot.param
        if slot.sparse_dim is not None:
            values = p.detach().new_zeros((0,) + tuple(p.shape[slot.sparse_dim:]))
            indices = torch.zeros((slot.sparse_dim, 0), dtype=torch.int64, device=p.device)
            p.grad = torch.sparse_coo_tensor(indices, values, p.shape)
            return
        if self._has_place(slot):
            slot.place.zero_()
            p.grad = slot.view()
        else:
            p.grad = torch.zeros_like(p.detach())

    # ---- receiving ----

    def _receive(self, slot: _Slot, sent: torch.Tensor, result: torch.Tensor, context: Any) -> None:
        """Make the result the gradient; there is nothing to do where it was reduced in place."""
        if self._compress and not sent.is_sparse:
            result = self._compression.decompress(result, context)
        grad = slot.param.grad
        if result.is_sparse:
            slot.param.grad = result
        elif grad is None or grad.is_sparse:
            slot.param.grad = result.view(slot.param.shape)
        elif result is not grad and result.data_ptr() != grad.data_ptr():
            grad.copy_(result if result.shape == grad.shape else _shaped(result, grad))

    def synchronize(self) -> None:
        """Wait until every gradient of this step is reduced and in `p.grad`."""
        if not self._hooked:
            self._synchronized = True
            return
        try:
            frozen = self._send_missing()
            self._wait(self._receive)
        finally:
            self._start_again()
        for slot in frozen:     # a parameter that is frozen everywhere must not be moved by momentum or weight decay
            if not slot.param.grad.is_sparse and not bool(slot.param.grad.any()):
                slot.param.grad = None
        self._synchronized = True

    @contextmanager
    def skip_synchronize(self) -> Iterator[None]:
        """Inside, step() does not reduce: for use after synchronize(), for instance to clip the reduced gradients."""
        self._should_synchronize = False
        try:
            yield
        finally:
            self._should_synchronize = True

    def _reducing(self, closure: Callable[[], Any]) -> Callable[[], Any]:
        """`closure`, with its gradients reduced before the optimizer sees them."""
        def reduced() -> Any:
            loss = closure()
            if self._touched:
                self.synchronize()
            if isinstance(self, torch.optim.LBFGS) and isinstance(loss, torch.Tensor):
                # It decides by the loss how often to come back: every rank must see the same.
                loss = allreduce(loss.detach(), name="allreduce.closure.loss", op=Average, process_set=self.process_set)
            return loss
        return reduced

    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Reduce the gradients, then take the step.  A closure's gradients are reduced each time it has run."""
        if not self._should_synchronize:
            pass
        elif self._hooked and closure is not None:
            if self._touched:
                self.synchronize()
            closure = self._reducing(closure)
        else:
            if self._synchronized:
                warnings.warn(REDUCED_TWICE)
            self.synchronize()
        try:
            return self._wrapped.step(self) if closure is None else self._wrapped.step(self, closure)
        finally:
            self._synchronized = False
            metrics.step()

    step.hooked = True          # torch puts its profiler and its step hooks around the wrapped step, once


class _AdasumDelta(_Hooked):
    """Takes the local step of each parameter in its hook, and combines the steps of the ranks by Adasum.

    The parameter itself keeps its value until step(): what backward still needs of it stays as it was.
    """

    def _start(self, named_parameters: Any, compression: Any, backward_passes_per_step: int, process_set: Any) -> None:
        self._deltas: Dict[int, torch.Tensor] = {}
        self._deltas_of: Any = None     # the context in whose arena the deltas are
        self._set_up(named_parameters, compression, backward_passes_per_step, Adasum, process_set)

    def _send(self, slot: _Slot) -> None:
        p = slot.param
        with torch.no_grad():
            start = p.detach().clone()
            self._step_alone(slot)
            delta = self._delta_of(p)
            torch.sub(p, start, out=delta)
            p.copy_(start)
        sent, context = self._compression.compress(delta)
        slot.sent = True
        self._in_flight.append((allreduce_async_(sent, name=slot.name, op=Adasum), slot, sent, context))

    def _apply(self, slot: _Slot, _: torch.Tensor, result: torch.Tensor, context: Any) -> None:
        slot.param.add_(self._compression.decompress(result, context))

    def _delta_of(self, p: torch.Tensor) -> torch.Tensor:
        """Memory for the step of `p`."""
        if self._deltas_of is not arena.current():
            self._deltas, self._deltas_of = {}, arena.current()
        delta = self._deltas.get(id(p))
        if delta is None or delta.shape != p.shape or delta.dtype != p.dtype or delta.device != p.device:
            delta = arena.alloc(p.numel(), p.dtype) if p.device.type == "cpu" else None
            delta = delta.view(p.shape) if delta is not None else torch.empty_like(
                p, memory_format=torch.contiguous_format)
            self._deltas[id(p)] = delta
        return delta

    def _step_alone(self, slot: _Slot) -> None:
        """The wrapped step, with `slot` as the only parameter."""
        groups = self.param_groups
        group = next(g for g in groups if any(p is slot.param for p in g["params"]))
        params = group["params"]
        try:
            self.param_groups, group["params"] = [group], [slot.param]
            self._wrapped.step(self)
        finally:
            self.param_groups, group["params"] = groups, params

    def synchronize(self) -> None:
        """Nothing: the steps, not the gradients, are combined, by step()."""

    @contextmanager
    def skip_synchronize(self) -> Iterator[None]:
        """Not to be used."""
        raise AssertionError("Skipping synchronization is not supported when using Adasum optimizer.")
        yield

    def step(self, closure: Optional[Callable[[], Any]] = None) -> Any:
        """Wait for the combined steps and apply them."""
        loss = closure() if closure is not None else None
        if not self._hooked:
            self._wrapped.step(self)
            return loss
        try:
            self._hook_parameters()
            for slot in self._slots.values():
                if not slot.sent:
                    self._send(slot)
            with torch.no_grad():
                self._wait(self._apply)
        finally:
            self._start_again()
            metrics.step()
        return loss

    step.hooked = True


def _new(kind: type) -> Any:
    return kind.__new__(kind)


def _contiguous(place: torch.Tensor) -> torch.Tensor:
    """A place as it is sent: in the order of its memory where that is another than that of its dimensions."""
    return place if place.is_contiguous() else place.as_strided((place.numel(),), (1,), place.storage_offset())


def _shaped(result: torch.Tensor, grad: torch.Tensor) -> torch.Tensor:
    """`result`, flat in the order of `grad`'s memory, in the shape of `grad`."""
    return result.as_strided(grad.shape, grad.stride(), result.storage_offset())


def _distributed(optimizer: torch.optim.Optimizer, kind: type) -> Any:
    """An object of a new subclass of the class of `optimizer`, with the members of `kind`, that shares its data."""
    members: Dict[str, Any] = {}
    for base in reversed(kind.__mro__[:-1]):
        members.update({k: v for k, v in vars(base).items() if k not in ("__dict__", "__weakref__", "__annotations__")})
    wrapped = type(optimizer)
    members.update(_wrapped=wrapped, __module__=__name__, __doc__=wrapped.__doc__)
    made = object.__new__(type(wrapped.__name__, (wrapped,), members))
    # A scheduler puts a step of its own on the optimizer; that one belongs to the old object.
    made.__dict__.update({k: v for k, v in vars(optimizer).items() if k not in ("step", "zero_grad")})
    return made


def DistributedOptimizer(optimizer: torch.optim.Optimizer,
                         named_parameters: Optional[Iterable[Tuple[str, torch.Tensor]]] = None,
                         compression: Any = Compression.none,
                         backward_passes_per_step: int = 1,
                         op: int = Average,
                         gradient_predivide_factor: float = 1.0,
                         num_groups: int = 0,
                         groups: Union[None, int, Sequence[Sequence[torch.Tensor]]] = None,
                         sparse_as_dense: bool = False,
                         process_set: Any = global_process_set) -> torch.optim.Optimizer:
    """`optimizer`, with its gradients reduced over the ranks of `process_set` before each step.

    named_parameters           names for the gradients, from model.named_parameters(); equal on all ranks
    compression                a class with compress(tensor) -> (tensor, context) and decompress(tensor, context)
    backward_passes_per_step   gradients of so many backward passes are added up locally first
    op                         Average, Sum, or Adasum, which combines the local steps instead of the gradients
    gradient_predivide_factor  with Average: divide by this before the sum, and by size / this after it
    groups                     how many groups the gradients are submitted in, or lists of parameters; a parameter in no
                               list goes alone
    num_groups                 the old name of groups
    sparse_as_dense            turn sparse gradients into dense ones before they are reduced

    A gradient that this rank did not compute counts as zeros: ranks with unused parameters do not block the others.
    """
    if getattr(type(optimizer), "_wrapped", None) is not None:
        raise ValueError("the optimizer is a distributed one already; give hvd.DistributedOptimizer() the plain one")
    if gradient_predivide_factor != 1.0 and op != Average:
        raise ValueError("gradient_predivide_factor not supported with op != Average")
    if num_groups != 0:
        warnings.warn("Parameter `num_groups` has been replaced by `groups`.", DeprecationWarning, stacklevel=2)
        if groups is None:
            groups = num_groups
    _check_groups(groups)
    if backward_passes_per_step <= 0:
        raise ValueError("backward_passes_per_step must be > 0, not %r" % (backward_passes_per_step,))
    if op == Adasum and size() > 1:
        if process_set is not global_process_set:
            raise NotImplementedError("Adasum does not support non-global process sets yet.")
        made = _distributed(optimizer, _AdasumDelta)
        made._start(named_parameters, compression, backward_passes_per_step, process_set)
        return made
    made = _distributed(optimizer, _Averaged)
    made._start(named_parameters, compression, backward_passes_per_step, op, gradient_predivide_factor, groups,
                sparse_as_dense, process_set)
    return made
