"""The parent of an ingest and edges, without its processes."""

from structlog.testing import capture_logs

from maze.roles.parent import Parent
from maze.settings.options import Settings


def ignore(_: str) -> None:
    """Take a report."""


def test_a_parent_that_is_to_stop_before_it_has_started_anything_starts_nothing() -> None:
    parent = Parent(Settings(edges=2, source_port=0, client_port=0, admin_port=0), [], {})
    with capture_logs() as entries:
        parent.drain()
        assert parent.run(ignore, ignore) == 0
    assert parent.processes == []
    assert [line["event"] for line in entries] == ["draining", "stopped"]
