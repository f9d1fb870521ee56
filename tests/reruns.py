"""Which tests may be run again when they fail.

Tests that are about real time (marked ``realtime``) can fail because the machine stood still. In
CI they are run again, twice at most, and the summary names each that needed it. All others are
never run again, nor is any test outside CI.
"""

import os

import pytest

REALTIME_FOLDERS = {"browser", "faults", "soak"}
"""folders of ``tests`` in which every test is about real time"""
RERUNS = 2


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", "realtime: the test is about real time, or processes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark whole folders, and in CI have what is marked run again when it fails."""
    is_watched = os.environ.get("GEVENT_MONITOR_THREAD_ENABLE")
    for item in items:
        if is_watched or REALTIME_FOLDERS.intersection(item.path.parts):
            item.add_marker("realtime")
        if os.environ.get("CI") and item.get_closest_marker("realtime"):
            item.add_marker(pytest.mark.flaky(reruns=RERUNS))
