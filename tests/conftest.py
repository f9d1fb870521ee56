"""What holds for every test."""

from interrupts import let_children_be_interrupted

from maze.core import IMPLEMENTATION

pytest_plugins = ["reruns"]


def pytest_configure() -> None:
    """Make the tests pass in the background, too."""
    let_children_be_interrupted()


def pytest_report_header() -> str:
    """Which core the tests run with."""
    return f"maze core: {IMPLEMENTATION}"
