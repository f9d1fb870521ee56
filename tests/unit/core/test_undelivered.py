"""Events for users who are not connected; events go in as lines, through the decoder."""

from maze.core import Decoder, Undelivered

from .fanout_world import KeepingWorld, World, crowded


def test_private_messages_and_follows_of_users_who_are_not_connected_are_counted() -> None:
    world = World(1)
    world.route("P|1|2", "P|2|1", "F|1|2", "F|2|1", "F|1|2", "U|1|2", "S|2", "S|1", "B")
    assert world.fanout.undelivered_counts() == {b"F": 2, b"P": 1}
    assert world.fanout.undelivered == []
    world.connect(2)
    world.route("P|1|2", "F|1|2")
    world.disconnect("2")
    world.route("P|1|2")
    assert world.fanout.undelivered_counts() == {b"F": 2, b"P": 2}


def test_nobody_is_connected_and_nothing_else_counts() -> None:
    world = KeepingWorld()
    world.route("B", "S|1", "U|1|2")
    assert world.fanout.undelivered_counts() == {b"F": 0, b"P": 0}
    assert world.fanout.undelivered == []


def test_undelivered_events_of_the_last_batch_are_kept_if_that_is_wanted() -> None:
    world = KeepingWorld(1)
    world.payloads_of(b"1|P|9|1\n2|P|1|07\r\n3|S|1\n4|F|1|7\n5|B\n")
    assert world.fanout.undelivered == [
        Undelivered(b"2|P|1|07\r\n", 2),
        Undelivered(b"4|F|1|7\n", 4),
    ]
    world.route("B")
    assert world.fanout.undelivered == []


def test_an_event_that_is_left_for_the_next_batch_is_not_undelivered_yet() -> None:
    world = KeepingWorld(1)
    runs, _ = Decoder().feed(b"1|P|9|7\n2|P|9|1\n3|P|9|7\n")
    _, rest = world.fanout.route(runs, 1)
    assert [event.sequence for event in world.fanout.undelivered] == [1]
    world.fanout.route(rest, 1)
    assert [event.sequence for event in world.fanout.undelivered] == [3]
    assert world.fanout.undelivered_counts() == {b"F": 0, b"P": 2}


def test_a_follow_may_be_refused_and_undelivered() -> None:
    world = KeepingWorld(max_follows=0)
    world.route("F|1|2")
    (refused,), (undelivered,) = world.fanout.refused, world.fanout.undelivered
    assert refused.line == undelivered.line == b"1|F|1|2\n"


def test_a_user_who_is_leaving_audiences_is_not_connected() -> None:
    world = crowded(1)
    while world.fanout.graph.settle(100):
        pass
    world.disconnect("1")
    world.route("P|9|1")
    assert world.fanout.undelivered_counts()[b"P"] == 1
