"""What can go wrong between a Redis journal and its server.

What may pass by itself is an UnavailableError, and the same call may succeed later. What needs
somebody to change something is a JournalServerError.
"""

import re
import ssl

from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ConnectionError,
    NoPermissionError,
    RedisError,
    TimeoutError,
)

from maze.journal.journal import JournalError, JournalServerError, UnavailableError

COMMANDS = (
    "evalsha eval info time exists get set incr unlink hset hdel hexists hgetall hkeys llen lrange "
    "rpush xadd xinfo xlen xrange xread xrevrange xtrim"
)
"""Commands that the user of a journal needs."""

_TEMPORARY = re.compile(
    r"\b(OOM|READONLY|LOADING|MASTERDOWN|NOREPLICAS|MISCONF|CLUSTERDOWN|TRYAGAIN|BUSY|UNBLOCKED)\b"
)
"""Codes of errors that may pass by themselves. Before Redis 7, an error of a command in a script
has its code in the middle of the message."""

_NO_PERMISSION = re.compile(r"\bNOPERM\b|user executing the script can't")
"""The same of a command in a transaction or, with Redis 7, in a script."""

_SCRIPT = re.compile(r" script: [0-9a-f]{40}, on @user_script:\d+\.?|\.$")
"""What Redis adds to the error of a command in a script."""


def journal_error(error: RedisError | OSError, where: object) -> JournalError:
    """Return the journal's error for one of redis-py."""
    reason = _lasting_reason(error)
    if reason:
        return JournalServerError(f"{where} {reason}")
    cause = error.__context__
    if isinstance(error, TimeoutError):
        return UnavailableError(f"{where} does not answer")
    if isinstance(error, ConnectionError | OSError) and not _code(error):
        reason = cause.strerror if isinstance(cause, OSError) and cause.strerror else _text(error)
        return UnavailableError(f"cannot reach {where}: {reason}")
    return UnavailableError(f"{where} refuses at present: {_text(error)}")


def _lasting_reason(error: RedisError | OSError) -> str | None:
    """Return why a call fails as long as nobody changes anything, or None."""
    if isinstance(error, AuthenticationError | AuthorizationError):
        return f"refuses user or password: {_text(error)}"
    if isinstance(error, NoPermissionError) or _NO_PERMISSION.search(str(error)):
        # Redis 7.0 does not say which command of a script it is.
        return f"lacks a permission: {_text(error)}. The user needs these commands: {COMMANDS}"
    if isinstance(error.__context__, ssl.SSLCertVerificationError):
        return f"has no valid certificate: {error.__context__.verify_message}"
    if isinstance(error, ConnectionError | TimeoutError | OSError):
        return None
    if _TEMPORARY.search(f"{_code(error)} {error}"):
        return None
    return f"refuses: {_text(error)}"


def damage(where: object, what: object) -> JournalError:
    """Return the error of a journal whose keys are not as they were written."""
    return JournalServerError(
        f"{where} is damaged: {what}. Restore it from a backup, or use another name to begin anew"
    )


def _code(error: BaseException) -> str:
    """Return the code of Redis' message if redis-py has removed it from there."""
    return getattr(error, "status_code", None) or ""


def _text(error: BaseException) -> str:
    return f"{_code(error)} {_SCRIPT.sub('', str(error).strip())}".strip()
