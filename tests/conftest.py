"""What holds for every test."""

from maze.core import TWIN


def pytest_report_header() -> str:
    """Which core the tests run with."""
    return f"maze core: {TWIN}"
