"""Errors of the service, one class per reason.

Each carries one sentence (``str(error)``) that names what was attempted, on what, why it failed and what to do, and
``errno``, the positive number that the C library gave. Source: ``include/trainyard/client.h``.
"""
import errno as _errno
from typing import Dict, Type


class TrainyardError(Exception):
    """Something that the service could not do; base of all others. ``errno`` is EIO when nothing better is known."""

    errno: int = _errno.EIO


class NotFound(TrainyardError):
    """No such run, target, datastore or file."""

    errno = _errno.ENOENT


class Refused(TrainyardError):
    """The request breaks a rule, which the text names."""

    errno = _errno.EINVAL


class Conflict(TrainyardError):
    """It exists already, or its state forbids it."""

    errno = _errno.EEXIST


class Forbidden(TrainyardError):
    """Another user's daemon, folder or run."""

    errno = _errno.EACCES


class TooLarge(TrainyardError):
    """A limit on bytes or files, named in the text."""

    errno = _errno.EFBIG


class TooMany(TrainyardError):
    """A limit on counts, named in the text."""

    errno = _errno.EBUSY


class NoSpace(TrainyardError):
    """The disk is full."""

    errno = _errno.ENOSPC


class WrongVersion(TrainyardError):
    """The daemon is of another version."""

    errno = _errno.EPROTO


class Unreachable(TrainyardError):
    """No daemon answers, and none could be started."""

    errno = _errno.ECONNREFUSED


class TimedOut(Unreachable):
    """The daemon went silent."""

    errno = _errno.ETIMEDOUT


class ConnectionLost(Unreachable):
    """The daemon went away in the middle of a request, which it may have carried out or not."""

    errno = _errno.ECONNRESET


class Unavailable(TrainyardError):
    """The daemon is stopping, or cannot write now."""

    errno = _errno.EAGAIN


class Interrupted(TrainyardError):
    """The call was stopped from another thread."""

    errno = _errno.EINTR


_BY_ERRNO: Dict[int, Type[TrainyardError]] = {
    kind.errno: kind
    for kind in (NotFound, Refused, Conflict, Forbidden, TooLarge, TooMany, NoSpace, WrongVersion, Unreachable, TimedOut,
                 ConnectionLost, Unavailable, Interrupted)
}
_BY_ERRNO[_errno.ENOTDIR] = NotFound
_BY_ERRNO[_errno.EUSERS] = TooMany
_BY_ERRNO[_errno.EPERM] = Forbidden


def error_of(code: int, text: str) -> TrainyardError:
    """The error for a negative errno `code` of the C library and its sentence."""
    error = _BY_ERRNO.get(-code, TrainyardError)(text)
    error.errno = -code
    return error
