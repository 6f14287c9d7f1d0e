"""The one way from the SDK to the service: a client for the state folder, and errors turned into the SDK's classes."""
import warnings
from contextlib import contextmanager
from typing import Iterator, Optional, Set, Type

from azureml.exceptions import AuthenticationException, AzureMLException, ServiceException, UserErrorException
from trainyard import context, errors
from trainyard.client import Client

_client: Optional[Client] = None
_warned: Set[str] = set()


def client() -> Client:
    """The client of this process. Inside a job it never starts a daemon, which would die with the job."""
    global _client
    if _client is None:
        _client = Client(start=context.current() is None)
    return _client


@contextmanager
def sdk_errors(user: Type[AzureMLException] = UserErrorException, doing: str = "") -> Iterator[None]:
    """Raise the SDK's errors for the service's: `user` for the user's mistakes, ServiceException for the service's troubles.

    doing: put before the text.
    """
    try:
        yield
    except errors.Forbidden as error:
        raise AuthenticationException(_text(doing, error), error) from None
    except (errors.NotFound, errors.Refused, errors.Conflict, errors.TooLarge, errors.TooMany) as error:
        raise user(_text(doing, error), error) from None
    except errors.TrainyardError as error:
        raise ServiceException(_text(doing, error), error) from None


def _text(doing: str, error: Exception) -> str:
    """`doing` before the error's own words, unless these begin so."""
    text = str(error)
    return text if text.startswith(doing[:20]) else doing + text


def warn_once(key: str, text: str, stacklevel: int = 3) -> None:
    """Warn (UserWarning) the first time that `key` comes up in this process."""
    if key not in _warned:
        _warned.add(key)
        warnings.warn(text, UserWarning, stacklevel=stacklevel + 1)


def cloud_only(name: str, given: bool) -> None:
    """Warn once that a parameter which means something only in the cloud has no effect here."""
    if given:
        warn_once("cloud:" + name, "%s means something only in the Azure cloud; it has no effect here" % name, stacklevel=5)


class _Later(UserErrorException, AttributeError):
    """A name of the SDK that a later release brings; ``hasattr`` says that it is not there."""


class _LaterKey(UserErrorException, KeyError):
    """The same for an entry of a dictionary."""


# A traceback names what scripts can catch.
for _error in (_Later, _LaterKey):
    _error.__name__ = _error.__qualname__ = UserErrorException.__name__
    _error.__module__ = UserErrorException.__module__


def later(what: str, instead: str, key: bool = False) -> UserErrorException:
    """The error for what a later release brings. key: it was looked for in a dictionary."""
    return (_LaterKey if key else _Later)("%s comes with a later release of Trainyard; %s" % (what, instead))
