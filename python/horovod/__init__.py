"""Horovod's API on Trainyard's engine of collectives: `import horovod.torch as hvd`. See docs/horovod.md."""
from typing import Any

__version__ = "0.28.1"          # of the API


def __getattr__(name: str) -> Any:
    if name == "run":
        from horovod.runner import run

        return run
    raise AttributeError("module 'horovod' has no attribute '%s'" % name)
