"""Runs a blocking call in a native thread, while the event loop goes on."""

from collections.abc import Callable
from typing import Any, TypeVar

import gevent

Result = TypeVar("Result")


def run_in_thread(call: Callable[..., Result], *arguments: Any) -> Result:
    """Return what the call returns, or raise what it raises, once it has ended."""
    outcome: tuple[Result, BaseException | None]
    outcome = gevent.get_hub().threadpool.apply(_outcome, (call, arguments))
    result, error = outcome
    if error is not None:
        raise error
    return result


def _outcome(call: Callable[..., Any], arguments: Any) -> tuple[Any, BaseException | None]:
    """Return an exception instead of raising it: the pool would print one that is raised."""
    try:
        return call(*arguments), None
    except BaseException as error:
        return None, error
