"""The tests pass in the background, too, where a shell has SIGINT ignored."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest
from interrupts import let_children_be_interrupted


@pytest.fixture
def in_the_background() -> Iterator[None]:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGINT, before)


def interrupted_child() -> int:
    """The exit status of a process that interrupts itself."""
    return subprocess.run(["sh", "-c", "kill -INT $$"], check=False, timeout=30).returncode


@pytest.mark.usefixtures("in_the_background")
def test_a_child_that_would_ignore_interrupts_does_not() -> None:
    assert interrupted_child() == 0
    let_children_be_interrupted()
    assert interrupted_child() == -signal.SIGINT
    os.kill(os.getpid(), signal.SIGINT)  # and these tests still ignore them


def test_children_of_these_tests_can_be_interrupted() -> None:
    assert interrupted_child() == -signal.SIGINT
