"""Names that a later release brings: they import, and say what to do as soon as they are used."""
from typing import Any, Tuple

from azureml.core._service import later


class _LaterName(type):
    """The type of a name that does nothing yet."""

    _what = "it"
    _instead = ""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        raise later("%s (%s)" % (cls.__qualname__, cls._what), cls._instead)

    def __getattr__(cls, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        raise later("%s.%s (%s)" % (cls.__qualname__, name, cls._what), cls._instead)


def later_name(name: str, what: str, instead: str) -> Any:
    """A class that stands for `name` ('module.Name'): a call and every attribute raise UserErrorException.

    what: what it is for, in words. instead: what to do without it.
    """
    module, _, short = name.rpartition(".")
    return _LaterName(short, (), {"__module__": module, "_what": what, "_instead": instead,
                                    "__doc__": "It comes with a later release: %s. On first use UserErrorException." % what})


def later_names(module: str, names: str, what: str, instead: str) -> Tuple[Any, ...]:
    """A later_name for each of `names`, which blanks separate."""
    return tuple(later_name("%s.%s" % (module, name), what, instead) for name in names.split())
