"""Parameters, the state of optimizers, and objects, from one rank to all."""
import collections.abc
import io
import pickle
from typing import Any, Dict, Iterator, List, Optional, Tuple

import torch

from horovod.torch.mpi_ops import (ProcessSet, allgather_async, broadcast_, broadcast_async_, global_process_set, rank,
                                   synchronize)

try:
    import cloudpickle
except ImportError:             # objects of functions and classes of __main__ can then not be sent
    cloudpickle = pickle


def _send_all(tensors: List[Tuple[str, torch.Tensor]], root_rank: int, process_set: ProcessSet) -> None:
    """Broadcast in place: all are begun, then all waited for. A tensor with gaps goes through a copy."""
    begun = []
    try:
        for name, tensor in tensors:
            whole = tensor if tensor.is_contiguous() else tensor.contiguous()
            begun.append((broadcast_async_(whole, root_rank, name, process_set), whole, tensor))
    finally:
        for handle, whole, tensor in begun:
            synchronize(handle)
            if whole is not tensor:
                with torch.no_grad():
                    tensor.copy_(whole)


def broadcast_parameters(params: Any, root_rank: int, process_set: ProcessSet = global_process_set) -> None:
    """Overwrite parameters with those of `root_rank`, a rank of the world.

    params: `model.state_dict()`, `model.named_parameters()` as a list or iterator of (name, tensor), or a list of tensors
    """
    if isinstance(params, dict):
        pairs = sorted(params.items())
    elif isinstance(params, list):
        pairs = [p if isinstance(p, tuple) else (None, p) for p in params]
    elif isinstance(params, collections.abc.Iterator) and not isinstance(params, collections.abc.Generator):
        pairs = list(params)
    else:
        raise ValueError("invalid params of type: %s; a state_dict, or a list of tensors or of (name, tensor) is needed" % type(params))
    chosen = []
    for name, tensor in pairs:
        if isinstance(tensor, torch.Tensor):
            chosen.append((None if name is None else str(name), tensor.data if isinstance(tensor, torch.nn.Parameter) else tensor))
    _send_all(chosen, root_rank, process_set)


class _Slot:
    """What stands for a tensor while the state of an optimizer travels as an object."""

    def __init__(self, index: int, tensor: torch.Tensor) -> None:
        self.index, self.shape, self.dtype, self.device = index, tuple(tensor.shape), tensor.dtype, tensor.device.type


def _take_out(value: Any, tensors: List[torch.Tensor]) -> Any:
    """`value` with a _Slot for each tensor, which is appended to `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors.append(value)
        return _Slot(len(tensors) - 1, value)
    if isinstance(value, dict):
        return {k: _take_out(v, tensors) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_take_out(v, tensors) for v in value)
    return value


def _put_back(value: Any, tensors: List[Any]) -> Any:
    if isinstance(value, _Slot):
        return tensors[value.index]
    if isinstance(value, dict):
        return {k: _put_back(v, tensors) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(_put_back(v, tensors) for v in value)
    return value


def _slots_with(value: Any, mine: Any) -> Iterator[Tuple[_Slot, Optional[torch.Tensor]]]:
    """Each slot of what the root sent, with the tensor that this rank has in the same place."""
    if isinstance(value, _Slot):
        yield value, mine if isinstance(mine, torch.Tensor) else None
    elif isinstance(value, dict):
        for k, v in value.items():
            yield from _slots_with(v, mine.get(k) if isinstance(mine, dict) else None)
    elif type(value) in (list, tuple):
        for i, v in enumerate(value):
            same = type(mine) is type(value) and len(mine) == len(value)
            yield from _slots_with(v, mine[i] if same else None)


def _state_of(optimizer: torch.optim.Optimizer) -> Dict[str, Any]:
    """Everything but the parameters, by their positions."""
    groups = [{k: v for k, v in group.items() if k != "params"} for group in optimizer.param_groups]
    state = {}
    for g, group in enumerate(optimizer.param_groups):
        for i, p in enumerate(group["params"]):
            if p in optimizer.state:
                state[(g, i)] = dict(optimizer.state[p])
    return {"groups": groups, "state": state, "sizes": [len(group["params"]) for group in optimizer.param_groups]}


def _room_for(slot: _Slot, mine: Optional[torch.Tensor], place: torch.device) -> torch.Tensor:
    if mine is not None and tuple(mine.shape) == slot.shape and mine.dtype == slot.dtype:
        return mine
    return torch.empty(slot.shape, dtype=slot.dtype, device=place if slot.device != "cpu" else "cpu")


def _take_over(optimizer: torch.optim.Optimizer, sent: Dict[str, Any], tensors: List[Any]) -> None:
    for group, options in zip(optimizer.param_groups, sent["groups"]):
        group.update(_put_back(options, tensors))
    for g, group in enumerate(optimizer.param_groups):
        for i, p in enumerate(group["params"]):
            if (g, i) in sent["state"]:
                optimizer.state[p] = _put_back(sent["state"][(g, i)], tensors)
            else:
                optimizer.state.pop(p, None)


def broadcast_optimizer_state(optimizer: torch.optim.Optimizer, root_rank: int, model: Any = None,
                              process_set: ProcessSet = global_process_set) -> None:
    """Overwrite the state and the options of an optimizer with those of `root_rank`. No step is made for it.

    model: not needed; scripts may give it
    """
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("cannot broadcast torch.optim.LBFGS state: it is no state of single parameters")
    mine = _state_of(optimizer)
    tensors: List[Any] = []
    outline = _take_out(mine, tensors)
    sent = broadcast_object(outline, root_rank, "optimizer_state", process_set)
    if sent["sizes"] != mine["sizes"]:
        raise ValueError("the optimizer of rank %d has parameter groups of %s parameters, this one of %s"
                         % (root_rank, sent["sizes"], mine["sizes"]))
    if rank() != root_rank:
        places = [p.device for group in optimizer.param_groups for p in group["params"]]
        place = places[0] if places else torch.device("cpu")
        room = [(slot.index, _room_for(slot, own, place)) for slot, own in _slots_with(sent, mine)]
        tensors = [tensor for _, tensor in sorted(room, key=lambda pair: pair[0])]
    _send_all([("optimizer_state.%d" % i, t.data) for i, t in enumerate(tensors)], root_rank, process_set)
    if rank() != root_rank:
        _take_over(optimizer, sent, tensors)


def _pack(obj: Any) -> torch.Tensor:
    data = io.BytesIO()
    cloudpickle.dump(obj, data)
    return torch.frombuffer(bytearray(data.getbuffer()), dtype=torch.uint8)


def _unpack(tensor: torch.Tensor) -> Any:
    return cloudpickle.loads(tensor.numpy().tobytes()) if hasattr(tensor, "numpy") else None


def broadcast_object(obj: Any, root_rank: int = 0, name: Optional[str] = None, process_set: ProcessSet = global_process_set) -> Any:
    """The object of `root_rank`, a rank of the world; the root gets its own object back. The others may give anything."""
    name = "object" if name is None else name
    here = rank() == root_rank
    data = _pack(obj) if here else None
    length = torch.tensor([data.numel() if here else 0], dtype=torch.int64)
    broadcast_(length, root_rank, name + ".sz", process_set)
    if not here:
        data = torch.empty(int(length), dtype=torch.uint8)
    broadcast_(data, root_rank, name + ".t", process_set)
    return obj if here else _unpack(data)


def broadcast_object_fn(root_rank: int = 0, name: Optional[str] = None, process_set: ProcessSet = global_process_set) -> Any:
    """broadcast_object() with everything but the object given."""
    return lambda obj: broadcast_object(obj, root_rank, name, process_set)


def allgather_object(obj: Any, name: Optional[str] = None, process_set: ProcessSet = global_process_set) -> List[Any]:
    """The objects of all ranks of the set, in the order of its ranks."""
    from horovod.torch import mpi_ops

    name = "all" if name is None else name
    handle = mpi_ops._submit_allgather((_pack(obj),), False, name + ".object", process_set, False)
    ((data, rows),) = synchronize(handle)
    return [_unpack(part) for part in data.split(list(rows))]
