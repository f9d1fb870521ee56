"""What holds for every test."""

import re
from pathlib import Path
from signal import SIGCHLD

import pytest
from interrupts import let_children_be_interrupted

from maze.core import IMPLEMENTATION

pytest_plugins = ["reruns"]


def pytest_configure() -> None:
    """Make the tests pass in the background, too."""
    let_children_be_interrupted()


def pytest_report_header() -> str:
    """Which core the tests run with."""
    return f"maze core: {IMPLEMENTATION}"


def pytest_runtest_teardown(item: pytest.Item) -> None:
    """Fail a test that lets gevent collect the children of this process.

    Whichever child ends from then on has the status 0, in all tests that follow. A process that
    starts children through ``gevent.subprocess`` must be a child itself.
    """
    assert not _catches_sigchld(), f"{item.name} starts a child through gevent.subprocess"


def _catches_sigchld() -> bool:
    try:
        caught = re.search(r"SigCgt:\s*(\w+)", Path("/proc/self/status").read_text())
    except OSError:  # only Linux has the file
        return False
    return bool(caught and int(caught[1], 16) >> (SIGCHLD - 1) & 1)
