"""Exceptions that nobody caught, told in the log.

By default gevent and the interpreter write such tracebacks to stderr themselves,
and wait while its reader does not read. What an exception costs is not decided
here: the greenlet or thread that raised it has ended.
"""

import sys
import threading
from types import TracebackType

import gevent
import structlog

log = structlog.get_logger()


def log_uncaught() -> None:
    """Send the uncaught exceptions of this process to the log."""
    gevent.get_hub().print_exception = _greenlet_failed  # type: ignore[assignment, method-assign]
    threading.excepthook = _thread_failed
    sys.unraisablehook = _exception_ignored


def _greenlet_failed(
    context: object | None,
    kind: type[BaseException] | None,
    error: BaseException | str | None,
    traceback: TracebackType | None,
) -> None:
    """Called by gevent: a greenlet, or a callback of the event loop, ended with an exception."""
    _log("greenlet_failed", context, (kind, error, traceback))


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    exception = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    _log("thread_failed", failure.thread, exception)


def _exception_ignored(failure: "sys.UnraisableHookArgs") -> None:
    """Called where no exception can go any further, as in a destructor."""
    exception = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    _log("exception_ignored", failure.object, exception)


def _log(event: str, context: object, exception: object) -> None:
    log.error(event, context=repr(context), exc_info=exception)
