"""Hooks that log uncaught exceptions.

By default gevent and the interpreter write tracebacks to stderr themselves, and block if nothing
reads it. The hooks only log: the greenlet or thread that failed has already ended.
"""

import sys
import threading
from types import TracebackType

import gevent
import structlog

log = structlog.get_logger()


def log_uncaught() -> None:
    """Log the uncaught exceptions of this process from now on."""
    gevent.get_hub().print_exception = _greenlet_failed  # type: ignore[assignment, method-assign]
    threading.excepthook = _thread_failed
    sys.unraisablehook = _exception_ignored


def _greenlet_failed(
    context: object | None,
    kind: type[BaseException] | None,
    error: BaseException | str | None,
    traceback: TracebackType | None,
) -> None:
    """Log an exception of a greenlet or of an event loop callback. gevent calls this."""
    _log("greenlet_failed", context, (kind, error, traceback))


def _thread_failed(failure: threading.ExceptHookArgs) -> None:
    exception = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    _log("thread_failed", failure.thread, exception)


def _exception_ignored(failure: "sys.UnraisableHookArgs") -> None:
    """Log an exception that cannot be raised further, as in a destructor."""
    exception = (failure.exc_type, failure.exc_value, failure.exc_traceback)
    _log("exception_ignored", failure.object, exception)


def _log(event: str, context: object, exception: object) -> None:
    log.error(event, context=repr(context), exc_info=exception)
