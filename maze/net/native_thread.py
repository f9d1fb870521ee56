"""Runs a blocking call in a native thread, while the event loop goes on."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import gevent

Result = TypeVar("Result")


class ThreadCall(Generic[Result]):
    """A blocking call that runs in a native thread."""

    def __init__(self, call: Callable[..., Result], *arguments: Any) -> None:
        pool = gevent.get_hub().threadpool
        self._outcome = pool.spawn(_outcome, call, arguments)

    def wait(self, seconds: float) -> bool:
        """Wait at most ``seconds`` for the end of the call; return whether it has ended."""
        self._outcome.wait(seconds)
        return bool(self._outcome.ready())

    def result(self) -> Result:
        """Return what the call returned, or raise what it raised, once it has ended."""
        outcome: Any = self._outcome.get()
        result: Result
        result, error = outcome
        if error is not None:
            raise error
        return result


def run_in_thread(call: Callable[..., Result], *arguments: Any) -> Result:
    """Return what the call returns, or raise what it raises, once it has ended."""
    return ThreadCall(call, *arguments).result()


def _outcome(call: Callable[..., Any], arguments: Any) -> tuple[Any, BaseException | None]:
    """Return an exception instead of raising it: the pool would print one that is raised."""
    try:
        return call(*arguments), None
    except BaseException as error:
        return None, error
