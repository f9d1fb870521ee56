"""A process that cannot be started is tried again."""

from __future__ import annotations

import errno
import os

import pytest
from end_to_end.peers import until
from gevent import subprocess
from structlog.testing import capture_logs

from maze.roles import child_process
from maze.roles.child_process import ChildProcess, NoAnswerError


def test_a_process_that_cannot_be_started_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_process, "RESTART_SECONDS", 0.001)
    monkeypatch.setattr(child_process, "MAX_RESTART_SECONDS", 0.001)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    process = ChildProcess("edge-1", 1, [], {}, folder="", on_refusal=lambda _: None)
    with capture_logs() as logged:
        process.start()
        until(lambda: process.restarts >= 3, "it to be tried again")
        with pytest.raises(NoAnswerError):
            process.ask(1.0, "page")
        process.drain(1.0)
        until(process.ended.is_set, "the end")
    errors = [line["error"] for line in logged if line["event"] == "process_not_started"]
    assert len(errors) >= 3
    assert set(errors) == {"Resource temporarily unavailable"}


def refuse(*_: object, **__: object) -> None:
    """Fail as the system does when there are too many processes."""
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
