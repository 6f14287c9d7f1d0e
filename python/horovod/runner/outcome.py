"""What a function of horovod.run() came to, on its way from a worker to the caller."""
import pickle
import traceback
from typing import Dict, Optional

from .settings import LaunchError


def dumps(value) -> bytes:
    """With cloudpickle where it is installed, so that lambdas and functions of __main__ work."""
    try:
        import cloudpickle
    except ImportError:
        return pickle.dumps(value)
    return cloudpickle.dumps(value)


def packed_error(error: BaseException) -> bytes:
    """An exception and its traceback; the exception as None when it cannot be pickled and read back."""
    text = traceback.format_exc()
    try:
        data = dumps(error)
        pickle.loads(data)
    except Exception:
        data = None
    return pickle.dumps(("error", data, "%s: %s" % (type(error).__name__, error), text))


def packed_result(value) -> bytes:
    try:
        return pickle.dumps(("value", dumps(value)))
    except Exception as e:
        raise TypeError("the result of the function cannot be pickled: %s" % e) from e


def raise_error(results: Dict[int, bytes], rank: int, reported: Optional[int] = None) -> None:
    """Raise what the function raised on `rank`, if it did; results[rank] is what came from there."""
    if rank not in results:
        return
    kind, *rest = pickle.loads(results[rank])
    if kind == "error":
        number = rank if reported is None else reported
        error = LaunchError("the function failed on rank %s: %s\n%s" % (number, rest[1], rest[2].rstrip()))
        raise error from (pickle.loads(rest[0]) if rest[0] is not None else None)


def value(data: bytes):
    """The value that packed_result() packed."""
    return pickle.loads(pickle.loads(data)[1])
