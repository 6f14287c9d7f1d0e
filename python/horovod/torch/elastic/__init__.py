"""Training that goes on when ranks come and go.

    state = hvd.elastic.TorchState(model=model, optimizer=optimizer, batch=0)

    @hvd.elastic.run
    def train(state):
        ...
        state.commit()
"""
from typing import Any, Callable

from horovod.common.elastic import ObjectState, State, run_fn
from horovod.torch.elastic.sampler import ElasticSampler
from horovod.torch.elastic.state import TorchState
from horovod.torch.mpi_ops import init, shutdown

__all__ = ["ElasticSampler", "ObjectState", "State", "TorchState", "run"]


def run(func: Callable[..., Any]) -> Callable[..., Any]:
    """`func(state, ...)`, begun again from the last commit when a rank fails, and from where it is when the hosts of
    the job change; see horovod.common.elastic for what happens in between, and where there is no elastic launcher."""
    return run_fn(func, init, shutdown)
