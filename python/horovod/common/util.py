"""Small things that scripts and tests import from here."""
import contextlib
import functools
import importlib.util
import os
import sys
import warnings
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence

EXTENSIONS = ("torch", "tensorflow", "mxnet")   # frameworks by which Horovod has modules


def _cache(f: Callable[..., Any]) -> Callable[..., Any]:
    """Remember what `f` returned for its arguments; keyword `verbose` does not count."""
    results: Dict[Any, Any] = {}

    @functools.wraps(f)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        key = (args, tuple(sorted((k, v) for k, v in kwargs.items() if k != "verbose")))
        if key not in results:
            results[key] = f(*args, **kwargs)
        return results[key]

    return wrapper


@_cache
def extension_available(ext_base_name: str, verbose: bool = False) -> bool:
    """Whether `horovod.<name>` can be imported: torch, where that is installed."""
    found = ext_base_name == "torch" and importlib.util.find_spec("torch") is not None
    if verbose and not found:
        print("horovod.%s is not available: %s" % (
            ext_base_name, "torch is not installed" if ext_base_name == "torch" else "Trainyard has horovod.torch alone"))
    return found


def check_extension(ext_name: str, ext_env_var: str, pkg_path: str, *args: str) -> None:
    """Raise ImportError where `horovod.<framework>` does not exist. `ext_name` is the framework, or a path that ends in it."""
    framework = ext_name.rsplit(".", 1)[-1]
    if not extension_available(framework):
        raise ImportError("Extension %s has not been built: Trainyard's horovod needs nothing built, but has horovod.torch "
                          "alone, which takes an installed torch" % ext_name)


def check_installed_version(name: str, version: str, exception: Optional[BaseException] = None) -> None:
    """Nothing to check: no part of this package is built against a framework."""


def gloo_built(verbose: bool = False) -> bool:
    """True: the engine needs no MPI, which is what scripts ask with this."""
    return True


def mpi_built(verbose: bool = False) -> bool:
    """True: scripts may be started by mpirun."""
    return True


def nccl_built(verbose: bool = False) -> bool:
    """Whether NCCL can be opened: that of the installed torch, or the system's. Nothing is built against it."""
    from horovod import _coll
    from horovod.common import cuda

    found = _coll.nccl_found(cuda.search_path())
    if verbose and isinstance(found, str):
        print(found, file=sys.stderr)
    return not isinstance(found, str)


def ddl_built(verbose: bool = False) -> bool:
    """False."""
    return False


def ccl_built(verbose: bool = False) -> bool:
    """False."""
    return False


def cuda_built(verbose: bool = False) -> bool:
    """Whether the CUDA runtime can be opened. Nothing is built against it."""
    from horovod import _coll
    from horovod.common import cuda

    found = _coll.cuda_found(cuda.search_path())
    if verbose and found is not None:
        print(found, file=sys.stderr)
    return found is None


def rocm_built(verbose: bool = False) -> bool:
    """False."""
    return False


def gpu_available(ext_base_name: str, verbose: bool = False) -> bool:
    """Whether the framework sees a GPU."""
    if not extension_available(ext_base_name):
        return False
    import torch

    return torch.cuda.is_available()


@contextlib.contextmanager
def env(**kwargs: Optional[str]) -> Iterator[None]:
    """Set environment variables (None: unset) inside a `with`."""
    before = dict(os.environ)
    for name, value in kwargs.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def get_average_backwards_compatibility_fun(reduce_ops: Any) -> Callable[[Any, Optional[bool]], Any]:
    """How `op` and the older `average` become one reduction; `reduce_ops` has Average and Sum."""
    def handle_average_backwards_compatibility(op: Any, average: Optional[bool]) -> Any:
        if average is None:
            return reduce_ops.Average if op is None else op
        if op is not None:
            raise ValueError("The op parameter supersedes average. Please provide only one of them.")
        warnings.warn("Parameter `average` has been replaced with `op`: hvd.Average, which is the default, or hvd.Sum.",
                      DeprecationWarning, stacklevel=3)
        return reduce_ops.Average if average else reduce_ops.Sum

    return handle_average_backwards_compatibility


def num_rank_is_power_2(num_rank: int) -> bool:
    """Whether `num_rank` is 1, 2, 4, 8, ..."""
    return num_rank > 0 and num_rank & (num_rank - 1) == 0


def split_list(items: Sequence[Any], num_parts: int) -> List[List[Any]]:
    """`items` in `num_parts` parts, the first ones one longer where it does not come out even."""
    each, more = divmod(len(items), num_parts)
    parts, at = [], 0
    for i in range(num_parts):
        n = each + (i < more)
        parts.append(list(items[at:at + n]))
        at += n
    return parts


def is_iterable(x: Any) -> bool:
    """Whether a `for` can go over it."""
    try:
        iter(x)
    except TypeError:
        return False
    return True
