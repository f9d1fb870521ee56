"""What a user missed; events go in as lines, through the fan-out."""

import pytest

from maze.core import (
    BehindError,
    Decoder,
    Fanout,
    FollowGraph,
    Recent,
    Replay,
    Run,
    UserWalk,
    lines_of,
)

MANY = 10**9


class World:
    """A fan-out without sessions, and what it routed last."""

    def __init__(self, max_events: int = MANY, **bounds: int) -> None:
        self.fanout = Fanout(FollowGraph(**bounds))
        self.recent = Recent(max_events, MANY)
        self.recent.begin(1)

    def route(self, *contents: str) -> None:
        """Route a batch of lines with the next numbers; an empty one is a number given up."""
        first = self.recent.end
        lines = [f"{number}|{text}\n" for number, text in enumerate(contents, first) if text]
        runs, _ = Decoder().feed("".join(lines).encode())
        runs.sort(key=lambda run: run.first)
        assert self.fanout.route(runs)[1] == []
        self.recent.add(runs, first + len(contents))

    def replay(self, user: int, number: int) -> Replay:
        return Replay(self.recent, user, self.fanout.graph.following(user), number)

    def missed(self, user: int, number: int) -> str:
        """The numbers of the lines that a user missed."""
        replay = self.replay(user, number)
        lines = numbers_of(replay.step(MANY, MANY))
        assert replay.is_complete
        assert replay.next == self.recent.end
        return lines


def numbers_of(lines: bytes) -> str:
    assert not lines or lines.endswith(b"\n")
    return " ".join(line.split("|")[0] for line in lines.decode().splitlines())


# Whose lines they are.


def test_what_a_user_missed() -> None:
    world = World()
    world.route("F|1|2", "B", "P|3|1", "P|3|2", "F|3|1", "U|3|1", "S|2", "S|3", "S|1")
    assert world.missed(1, 1) == "2 3 5 7"
    assert world.missed(2, 1) == "1 2 4"
    assert world.missed(3, 1) == "2"
    assert world.missed(3, 3) == ""


def test_a_status_update_reaches_who_followed_at_that_point() -> None:
    world = World()
    world.route("S|2", "F|1|2", "S|2", "U|1|2", "S|2", "F|1|2", "S|2")
    for number in range(1, 9):
        expected = " ".join(str(seen) for seen in (3, 7) if seen >= number)
        assert world.missed(1, number) == expected


def test_a_repeated_follow_is_not_undone() -> None:
    """To undo it loses event 3, as the follow of event 1 changed the graph, not that of 2."""
    world = World()
    world.route("F|1|2", "F|1|2", "S|2")
    assert world.missed(1, 2) == "3"
    assert world.missed(2, 2) == "2", "it notifies all the same"


def test_an_unfollow_of_a_stranger_is_not_undone() -> None:
    world = World()
    world.route("U|1|2", "S|2", "F|1|2")
    assert world.missed(1, 1) == ""


def test_a_refused_follow_is_neither_undone_nor_applied_but_notifies() -> None:
    world = World(max_follows=1)
    world.route("F|1|2", "F|1|3", "S|3", "S|2", "F|1|3", "U|1|2", "S|2")
    assert world.missed(1, 1) == "4"
    assert world.missed(1, 2) == "4"
    assert world.missed(3, 1) == "2 5"


def test_a_self_follow_is_delivered_once() -> None:
    world = World()
    world.route("S|1", "F|1|1", "S|1", "P|1|1", "U|1|1", "S|1")
    assert world.missed(1, 1) == "2 3 4"


def test_user_0_gets_no_more_than_is_its_own() -> None:
    world = World()
    world.route("B", "S|0", "P|0|1", "P|1|0", "S|1", "U|0|1", "U|1|0", "F|0|0", "S|0")
    assert world.missed(0, 1) == "1 4 8 9"


# Where it begins, and where it ends.


def test_who_missed_nothing_is_complete() -> None:
    world = World()
    assert world.replay(1, 1).is_complete
    world.route("B", "")
    assert world.replay(1, 3).is_complete
    replay = world.replay(1, 2)
    assert not replay.is_complete
    assert replay.step(1, 1) == b""
    assert replay.is_complete


def test_numbers_without_an_event_are_passed_over() -> None:
    world = World()
    world.route("", "B", "X", "", "B", "", "")
    for number, expected in enumerate(["2 5", "2 5", "5", "5", "5", "", "", ""], 1):
        assert world.missed(7, number) == expected


def test_a_number_that_is_ahead_is_refused() -> None:
    world = World()
    world.route("B")
    with pytest.raises(ValueError, match="above all that were routed"):
        world.replay(1, 3)


def test_a_number_that_is_no_longer_kept_is_behind() -> None:
    world = World(max_events=2)
    for _ in range(4):
        world.route("B")
    assert world.missed(1, 3) == "3 4"
    with pytest.raises(BehindError, match="from number 2 on are no longer kept"):
        world.replay(1, 2)


def test_what_is_dropped_in_the_meantime_is_behind() -> None:
    world = World(max_events=4)
    for _ in range(4):
        world.route("B")
    replay, other = world.replay(1, 1), world.replay(1, 1)
    other.step(5, MANY)
    assert other.next == 2
    world.route("B")
    with pytest.raises(BehindError):
        replay.step(MANY, MANY)
    assert numbers_of(other.step(MANY, MANY)) == "2 3 4 5"


def test_another_sequence_is_behind() -> None:
    world = World()
    world.route("B")
    replay, complete = world.replay(1, 1), world.replay(1, 2)
    world.recent.begin(1)
    world.route("B")
    for one in (replay, complete):
        assert not one.is_complete
        with pytest.raises(BehindError):
            one.step(MANY, MANY)


def test_who_has_all_of_what_is_not_kept_is_complete() -> None:
    world = World(max_events=0)
    world.route("B", "B")
    replay = world.replay(1, 3)
    assert replay.is_complete
    world.route("B")
    assert not replay.is_complete
    with pytest.raises(BehindError):
        replay.step(MANY, MANY)


# Steps.


@pytest.mark.parametrize("max_events", range(1, 9))
def test_a_step_looks_at_no_more_events_than_it_may(max_events: int) -> None:
    world = World()
    world.route("B", "F|1|2", "S|2", "", "B")
    world.route("U|1|2", "S|2", "B")
    replay = world.replay(1, 2)
    steps, numbers = 0, []
    while not replay.is_complete:
        numbers.append(numbers_of(replay.step(max_events, MANY)))
        steps += 1
    assert steps == -(-2 * 6 // max_events), "six events back, six forward"
    assert " ".join(filter(None, numbers)) == "3 5 8"


def test_a_step_stops_behind_the_line_that_reaches_its_bound() -> None:
    world = World()
    world.route("B", "S|5", "B", "B", "B")
    world.route("B")
    replay = world.replay(1, 1)
    assert (replay.step(MANY, 5), replay.next) == (b"1|B\n3|B\n", 4)
    assert (replay.step(MANY, 4), replay.next) == (b"4|B\n", 5)
    assert (replay.step(MANY, 1), replay.next) == (b"5|B\n", 6)
    assert not replay.is_complete
    assert (replay.step(MANY, 4), replay.next) == (b"6|B\n", 7)
    assert replay.is_complete


def test_what_is_routed_between_the_steps_is_collected() -> None:
    world = World()
    world.route("F|1|2", "S|2")
    replay = world.replay(1, 1)
    assert replay.step(2, MANY) == b""
    world.route("U|1|2", "S|2", "F|1|2", "S|2")
    assert numbers_of(replay.step(3, MANY)) == "2"
    assert numbers_of(replay.step(MANY, MANY)) == "6"
    assert replay.is_complete
    world.route("S|2")
    assert not replay.is_complete
    assert numbers_of(replay.step(MANY, MANY)) == "7"


# A walk over runs that come from elsewhere.


def routed(*contents: str) -> tuple[Run, FollowGraph]:
    stream = "".join(f"{number}|{text}\n" for number, text in enumerate(contents, 1))
    fanout = Fanout(FollowGraph())
    runs, _ = Decoder().feed(stream.encode())
    fanout.route(runs)
    (run,) = runs
    return run, fanout.graph


def test_a_walk_back_and_forth() -> None:
    run, graph = routed("F|1|2", "F|1|3", "U|1|2", "S|3", "F|1|2", "F|1|2", "U|9|9", "S|2")
    walk = UserWalk(1, graph.following(1))
    assert walk.user == 1
    following = []
    for number in range(8, 0, -1):
        walk.undo(run, number, number + 1)
        following.append(sorted(walk.following))
    assert following == [[2, 3]] * 3 + [[3]] * 2 + [[2, 3], [2], []]
    assert walk.collect(run, 0, 5, MANY) == (b"4|S|3\n", 5)
    assert walk.following == {3}
    assert walk.collect(run, 5, 99, MANY) == (b"8|S|2\n", 9)
    assert walk.following == graph.following(1)


def test_a_walk_that_can_only_read_forward_notes_first() -> None:
    run, graph = routed("F|1|2", "F|1|2", "U|1|3", "U|1|2", "F|1|2", "S|2", "F|1|4", "U|1|4")
    for first in range(1, 9):
        noted, undone = UserWalk(1, graph.following(1)), UserWalk(1, graph.following(1))
        noted.note(run, first, 4)
        noted.note(run, max(first, 4), 9)
        assert noted.following == graph.following(1), "until it is undone"
        noted.undo_noted()
        undone.undo(run, first, 9)
        assert noted.following == undone.following
        noted.undo_noted()
        assert noted.following == undone.following, "it is undone once"
        assert noted.collect(run, first, 9, MANY)[0] == (b"6|S|2\n" if first <= 6 else b"")


def test_a_walk_passes_over_what_a_run_does_not_have() -> None:
    run, graph = routed("B", "B", "B")
    run = run.clip(2, 4)
    walk = UserWalk(1, graph.following(1))
    assert walk.collect(run, 0, 3, MANY) == (b"2|B\n", 3)
    assert walk.collect(run, 3, 9, MANY) == (b"3|B\n", 4)
    assert walk.collect(run, 5, 9, MANY) == (b"", 5)
    assert walk.collect(run, 0, 1, MANY) == (b"", 2)
    assert lines_of([run]) == b"2|B\n3|B\n"


def test_many_followed_users_come_and_go() -> None:
    world = World()
    world.route(*[f"F|1|{user}" for user in range(2, 500)])
    world.route(*[f"S|{user}" for user in range(2, 500)])
    world.route(*[f"U|1|{user}" for user in range(2, 500, 2)])
    world.route(*[f"S|{user}" for user in range(2, 500)])
    second = [2 * 498 + 249 + user - 1 for user in range(3, 500, 2)]
    assert world.missed(1, 1) == " ".join(map(str, [*range(499, 997), *second]))
