"""When a snapshot is due."""

from maze.journal.snapshot_schedule import RETRY_SECONDS, SnapshotSchedule


def schedule(events: int = 10, interval: float = 100.0) -> SnapshotSchedule:
    return SnapshotSchedule(events, interval, 1_000.0)


def test_a_snapshot_is_due_after_so_many_events() -> None:
    plan = schedule()
    plan.add(9)
    assert not plan.is_due(1_001)
    plan.add(1)
    assert plan.is_due(1_001)


def test_a_snapshot_is_due_after_so_long_if_there_were_events() -> None:
    plan = schedule()
    assert not plan.is_due(9_999)
    plan.add(1)
    assert not plan.is_due(1_099)
    assert plan.is_due(1_100)


def test_no_snapshot_is_due_while_one_is_made() -> None:
    plan = schedule()
    plan.add(50)
    plan.begin(1_001)
    plan.add(50)
    assert not plan.is_due(9_999)


def test_events_and_time_count_from_the_beginning_of_the_newest_snapshot() -> None:
    plan = schedule()
    plan.add(50)
    plan.begin(1_050)
    plan.add(9)
    plan.finish()
    assert not plan.is_due(1_149)
    assert plan.is_due(1_150)
    plan.add(1)
    assert plan.is_due(1_050)


def test_after_a_failure_the_next_snapshot_is_due_a_minute_later() -> None:
    plan = schedule()
    plan.add(10)
    plan.begin(1_001)
    plan.add(1)
    plan.fail(1_005)
    assert not plan.is_due(1_005 + RETRY_SECONDS - 1)
    assert plan.is_due(1_005 + RETRY_SECONDS)
