"""Marks on follows and unfollows that did not change the graph, and their numbers on their own."""

import gc

import pytest

from maze.core import (
    IMPLEMENTATION,
    Decoder,
    Run,
    mark_unchanged,
    unchanged_numbers,
)

from .fanout_world import World


def kinds_of(runs: list[Run]) -> str:
    return b"".join(kind for run in runs for _, _, kind, _, _ in run.events).decode()


def test_a_follow_or_unfollow_that_changes_nothing_is_marked() -> None:
    runs, _ = Decoder().feed(b"1|F|1|2\n2|F|1|2\n3|U|1|2\n4|U|1|2\n5|U|7|8\n6|F|1|2\n7|B\n")
    lines = [line for run in runs for _, line, *_ in run.events]
    World(1).fanout.route(runs)
    assert kinds_of(runs) == "FfUuuFB"
    assert [line for run in runs for _, line, *_ in run.events] == lines


@pytest.mark.parametrize("bound", ["max_users", "max_follows", "max_follows_per_user"])
def test_a_refused_follow_is_marked(bound: str) -> None:
    user = 1 if bound == "max_follows_per_user" else 2
    stream = b"1|F|1|9\n2|F|%d|8\n3|F|1|9\n4|U|%d|8\n5|U|1|9\n6|F|%d|8\n" % (user, user, user)
    for connected in ([], [1, 2]):
        runs, _ = Decoder().feed(stream)
        World(*connected, **{bound: 1}).fanout.route(runs)
        assert kinds_of(runs) == "FffuUF"


def test_marks_are_tallied_by_the_type_on_the_wire() -> None:
    world = World(2)
    world.route("F|1|2", "F|1|2", "U|1|2", "U|1|2")
    events = {kind: tally[0] for kind, tally in world.fanout.tallies().items()}
    assert events == {b"F": 2, b"U": 2, b"B": 0, b"P": 0, b"S": 0}


@pytest.mark.parametrize("cut", range(1, 6))
def test_what_is_left_of_a_run_is_marked_when_it_is_routed(cut: int) -> None:
    """A batch that is cut leaves part of the run to the next; the first part keeps its marks."""
    world = World(2)
    runs, _ = Decoder().feed(b"1|F|1|2\n2|F|1|2\n3|F|1|2\n4|F|1|2\n5|F|3|2\n6|F|3|2\n")
    _, rest = world.fanout.route(runs, cut * len(b"1|F|1|2\n"))
    (run,) = runs
    assert kinds_of([run.clip(1, 1 + cut)]) == "FfffFf"[:cut]
    assert kinds_of(rest) == "F" * (6 - cut)
    assert world.fanout.route(rest)[1] == []
    assert kinds_of(rest) == "FfffFf"[cut:]
    assert kinds_of([run.clip(1, 1 + cut)]) == "FfffFf"[:cut]


def test_a_run_is_not_routed_again_with_its_marks() -> None:
    runs, _ = Decoder().feed(b"1|F|1|2\n2|F|1|2\n")
    world = World(2)
    world.fanout.route(runs)
    with pytest.raises(KeyError):
        world.fanout.route(runs)


# The numbers of what is marked.

STREAM = b"1|F|1|2\n2|F|1|2\n3|B\n5|U|7|8\n6|F|1|2\n7|F|1|3\n"


def routed() -> list[Run]:
    runs, _ = Decoder().feed(STREAM)
    World().fanout.route(runs)
    assert kinds_of(runs) == "FfBufF"
    return runs


def test_runs_that_are_decoded_again_get_their_marks_back() -> None:
    runs, _ = Decoder().feed(STREAM)
    mark_unchanged(runs, unchanged_numbers(routed(), 8))
    assert kinds_of(runs) == "FfBufF"


@pytest.mark.parametrize(("end", "kinds"), [(1, "FFBUFF"), (5, "FfBUFF"), (6, "FfBuFF")])
def test_numbers_from_the_end_on_are_not_told(end: int, kinds: str) -> None:
    runs, _ = Decoder().feed(STREAM)
    mark_unchanged(runs, unchanged_numbers(routed(), end))
    assert kinds_of(runs) == kinds


def test_numbers_of_other_runs_are_ignored() -> None:
    runs, _ = Decoder().feed(STREAM)
    mark_unchanged(runs[1:], unchanged_numbers(routed(), 8))
    assert kinds_of(runs) == "FFBufF"


@pytest.mark.skipif(IMPLEMENTATION == "pure", reason="the pure core's runs are Python objects")
def test_runs_do_not_burden_the_garbage_collector() -> None:
    """A hundred thousand may be kept."""
    assert not any(map(gc.is_tracked, routed()))
