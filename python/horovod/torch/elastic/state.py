"""The state of a PyTorch training: models, optimizers, samplers, and plain values."""
import copy
from typing import Any, Dict, List, Tuple, Type

import torch

from horovod.common.elastic import ObjectState
from horovod.torch.elastic.sampler import ElasticSampler
from horovod.torch.functions import broadcast_object, broadcast_optimizer_state, broadcast_parameters
from horovod.torch.mpi_ops import rank


class StateHandler:
    """Keeps a copy of the state dict of `value`."""

    def __init__(self, value: Any) -> None:
        self.value = value
        self.save()

    def save(self) -> None:
        """Remember the state as it is."""
        self._saved = copy.deepcopy(self.value.state_dict())

    def restore(self) -> None:
        """Back to what was remembered."""
        self.value.load_state_dict(copy.deepcopy(self._saved))

    def sync(self) -> None:
        """Make the state that of rank 0, and remember it."""
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        """Another object is to be handled from now on."""
        self.value = value
        self.save()


class ModelStateHandler(StateHandler):
    def sync(self) -> None:
        broadcast_parameters(self.value.state_dict(), root_rank=0)
        self.save()


class OptimizerStateHandler(StateHandler):
    def restore(self) -> None:
        super().restore()
        self.value.zero_grad()          # after a failure some gradients are reduced and some are not

    def sync(self) -> None:
        broadcast_optimizer_state(self.value, root_rank=0)
        self.save()


class SamplerStateHandler(StateHandler):
    def sync(self) -> None:
        self.value.load_state_dict(broadcast_object(self.value.state_dict()))
        self.save()


HANDLERS: List[Tuple[type, Type[StateHandler]]] = [
    (torch.nn.Module, ModelStateHandler),
    (torch.optim.Optimizer, OptimizerStateHandler),
    (ElasticSampler, SamplerStateHandler),
]


def _handler_of(value: Any) -> Any:
    for kind, handler in HANDLERS:
        if isinstance(value, kind):
            return handler(value)
    return None


class TorchState(ObjectState):
    """`TorchState(model=model, optimizer=optimizer, epoch=0, ...)`: each name is an attribute.

    Models, optimizers and ElasticSamplers are saved as copies of their state dicts, in memory; all other values as
    they are, so that they should be small, and replaced rather than changed in place.
    """

    def __init__(self, model: Any = None, optimizer: Any = None, **kwargs: Any) -> None:
        kwargs.update(model=model, optimizer=optimizer)
        handlers: Dict[str, StateHandler] = {}
        for name, value in kwargs.items():
            handler = _handler_of(value)
            if handler is not None:
                handlers[name] = handler
        self._handlers = handlers
        for name, handler in handlers.items():
            object.__setattr__(self, name, handler.value)
        plain = {name: value for name, value in kwargs.items() if name not in handlers}
        super().__init__(bcast_object=broadcast_object, get_rank=rank, **plain)

    def save(self) -> None:
        for handler in self._handlers.values():
            handler.save()
        super().save()

    def restore(self) -> None:
        for handler in self._handlers.values():
            handler.restore()
        super().restore()

    def sync(self) -> None:
        for handler in self._handlers.values():
            handler.sync()
        super().sync()

    def reset(self) -> None:
        for handler in self._handlers.values():
            if isinstance(handler, SamplerStateHandler):
                handler.value.reset()

    def __setattr__(self, name: str, value: Any) -> None:
        handlers = self.__dict__.get("_handlers", {})
        if name in handlers and value is not handlers[name].value:
            handlers[name].set_value(value)
        super().__setattr__(name, value)
