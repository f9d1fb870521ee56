"""Who gets what, and in what order; events go in as lines, through the decoder."""

import pytest

from maze.core import Decoder, Reason, Reject
from maze.core.fanout import ASKED_BYTES

from .fanout_world import World, bytes_of, crowded

# Who is notified.


def test_a_follow_notifies_the_followed() -> None:
    assert World(60, 50).route("F|60|50") == {"50": "1"}


def test_an_unfollow_notifies_nobody() -> None:
    assert World(12, 9).route("U|12|9") == {}
    assert World(12, 9).route("F|12|9", "U|12|9") == {"9": "1"}


def test_a_broadcast_reaches_every_connected_client() -> None:
    assert World(1, 2, 2).route("B") == {"1": "1", "2": "1", "2/2": "1"}


def test_a_private_message_reaches_its_user_alone() -> None:
    assert World(32, 56, 7).route("P|32|56") == {"56": "1"}


def test_a_status_update_reaches_every_current_follower() -> None:
    world = World(1, 2, 3, 32)
    assert world.route("F|1|32", "F|2|32", "S|32") == {"32": "1 2", "1": "3", "2": "3"}
    assert world.route("U|1|32", "S|32") == {"2": "2"}


def test_a_user_who_is_not_connected_is_passed_over_silently() -> None:
    world = World(1)
    assert world.route("F|1|2", "P|1|2", "S|1", "S|2") == {"1": "4"}
    assert World().route("B", "F|1|2", "S|2", "P|1|2", "U|1|2") == {}


def test_follows_hold_for_those_who_connect_later() -> None:
    world = World()
    assert world.route("F|1|2", "F|3|2", "U|3|2") == {}
    world.connect(1)
    world.connect(3)
    assert world.route("S|2") == {"1": "1"}


def test_a_client_that_connects_in_mid_stream_gets_what_is_routed_from_then_on() -> None:
    world = World(1)
    assert world.route("B", "B") == {"1": "1 2"}
    world.connect(2)
    assert world.route("B") == {"1": "1", "2": "1"}
    world.disconnect("1")
    assert world.route("B") == {"2": "1"}


def test_follow_and_unfollow_take_effect_within_the_batch() -> None:
    assert World(1).route("S|2", "F|1|2", "S|2", "U|1|2", "S|2", "F|1|2", "S|2") == {"1": "3 7"}


def test_a_second_follow_still_notifies_and_one_unfollow_undoes_both() -> None:
    assert World(1, 2).route("F|1|2", "F|1|2", "S|2", "U|1|2", "S|2") == {"2": "1 2", "1": "3"}


def test_a_self_follower_gets_its_own_status_updates() -> None:
    assert World(1).route("F|1|1", "S|1", "U|1|1", "S|1") == {"1": "1 2"}


def test_an_unfollow_of_a_stranger_disturbs_nobody() -> None:
    assert World(1, 2).route("F|1|2", "U|2|1", "U|9|2", "U|1|9", "S|2") == {"2": "1", "1": "5"}


def test_a_private_message_to_oneself_is_delivered_once() -> None:
    assert World(1).route("P|1|1") == {"1": "1"}


def test_every_session_of_a_user_gets_the_events_of_that_user() -> None:
    world = World(1, 1, 2)
    assert world.route("P|2|1", "F|2|1", "B", "F|1|2", "S|2") == {
        "1": "1 2 3 5",
        "1/2": "1 2 3 5",
        "2": "3 4",
    }
    world.disconnect("1")
    assert world.route("P|2|1", "S|2") == {"1/2": "1 2"}


def test_user_0_is_a_user_like_any_other() -> None:
    assert World(0).route("P|0|0", "F|0|0", "S|0", "B") == {"0": "1 2 3 4"}


def test_007_is_user_7_and_the_bytes_stay() -> None:
    payloads = World(7).payloads("P|1|007")
    assert bytes_of(payloads["7"]) == b"1|P|1|007\n"


# Bytes and order.


def test_the_bytes_are_those_that_were_read() -> None:
    stream = b"001|B\r\n2|P|1|7\n3|B\n4|P|1|07\r\n"
    assert bytes_of(World(7).payloads_of(stream)["7"]) == stream


@pytest.mark.parametrize(
    "kinds",
    [
        "o",
        "b",
        "ob",
        "bo",
        "oo",
        "bb",
        "bob",
        "obo",
        "boob",
        "obbo",
        "oobb",
        "bboo",
        "bobobob",
        "obobobo",
        "bbboobbbooobb",
    ],
)
def test_own_events_stand_between_the_broadcasts_where_they_belong(kinds: str) -> None:
    contents = ["B" if kind == "b" else "P|9|1" for kind in kinds]
    expected = {"1": " ".join(str(number) for number in range(1, len(kinds) + 1))}
    broadcasts = " ".join(str(number) for number, kind in enumerate(kinds, 1) if kind == "b")
    if broadcasts:
        expected["2"] = broadcasts
    assert World(1, 2).route(*contents) == expected


def test_sessions_with_own_events_at_different_places_keep_their_order_each() -> None:
    got = World(1, 2, 3).route("P|9|1", "B", "P|9|2", "P|9|1", "B", "B", "P|9|2")
    assert got == {"1": "1 2 4 5 6", "2": "2 3 5 6 7", "3": "2 5 6"}


def test_several_runs_make_one_batch_and_one_payload_a_session() -> None:
    world = World(1, 2)
    payloads = world.payloads_of(b"1|B\n2|P|9|1\n7|B\n8|P|9|1\n20|B\n")
    assert bytes_of(payloads["1"]) == b"1|B\n2|P|9|1\n7|B\n8|P|9|1\n20|B\n"
    assert bytes_of(payloads["2"]) == b"1|B\n7|B\n20|B\n"


def test_nothing_is_carried_from_one_batch_to_the_next() -> None:
    world = World(1)
    assert world.route("B", "P|9|1") == {"1": "1 2"}
    assert world.route("P|9|1") == {"1": "1"}
    assert world.route("B") == {"1": "1"}
    assert world.route() == {}


def test_an_empty_batch_gives_nobody_anything() -> None:
    assert World(1, 2).fanout.route([]) == ([], [])


def test_a_number_with_nothing_to_deliver_is_passed_over() -> None:
    world = World(1, 7)
    runs, _ = Decoder().feed(b"1|P|9|7\n2|X|1|7\n3|P|9|7\n")
    runs.sort(key=lambda run: run.first)
    assert [run.void for run in runs] == [False, True, False]
    ((recipient, payload),), rest = world.fanout.route(runs)
    assert (recipient, rest) == (world.recipients["7"], [])
    assert bytes_of(payload) == b"1|P|9|7\n3|P|9|7\n"


# While a user enters audiences, or leaves them.


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 6, 11, 12])
def test_who_is_entering_audiences_misses_nothing_and_gets_nothing_twice(steps: int) -> None:
    world = crowded(1, 2, 1, 3)
    for _ in range(steps):
        world.fanout.graph.settle(1)
    updates = [f"S|{user}" for user in range(9, 17)]
    expected = dict.fromkeys(("1", "1/2", "2"), "2 3 4 5 6 7")
    assert world.route(*updates) == expected
    assert world.route("U|1|10", "S|10", "F|1|9", "S|9", "P|3|1", "B") == {
        "1": "4 5 6",
        "1/2": "4 5 6",
        "2": "2 6",
        "3": "6",
    }
    assert [tally[1] for tally in world.fanout.tallies().values()] == [0, 0, 4, 2, 3 * 6 + 1 + 2]


@pytest.mark.parametrize("steps", [0, 1, 3, 5, 6, 11, 12])
def test_who_is_leaving_audiences_gets_nothing_and_takes_nothing_from_others(steps: int) -> None:
    world = crowded(1, 2, 3)
    while world.fanout.graph.settle(100):
        pass
    world.disconnect("1")
    world.disconnect("2")
    world.connect(2)
    for _ in range(steps):
        world.fanout.graph.settle(1)
    updates = [f"S|{user}" for user in range(9, 17)]
    assert world.route(*updates, "P|3|1", "F|1|3", "P|1|3") == {"2": "2 3 4 5 6 7", "3": "10 11"}
    assert world.fanout.graph.following(1) == {3, *range(10, 16)}


def test_to_ask_those_who_are_entering_counts_towards_the_bound_of_all() -> None:
    world = crowded(1, 2)
    runs, _ = Decoder().feed(b"1|S|7\n2|S|7\n3|S|7\n4|P|7|3\n")
    payloads, rest = world.fanout.route(runs, batch_bytes=2 * 2 * ASKED_BYTES)
    assert (payloads, [(run.first, run.end) for run in rest]) == ([], [(3, 5)])
    while world.fanout.graph.settle(1):
        pass
    assert world.fanout.route(runs, batch_bytes=1) == ([], [])


def test_those_who_are_leaving_count_towards_the_bound_of_all() -> None:
    world = crowded(1, 2, 3)
    while world.fanout.graph.settle(100):
        pass
    for session in ("1", "2"):
        world.disconnect(session)
    runs, _ = Decoder().feed(b"1|S|10\n2|S|10\n3|S|10\n4|P|7|1\n5|P|7|3\n")
    payloads, rest = world.fanout.route(runs, batch_bytes=2 * 2 * ASKED_BYTES)
    assert (payloads, [(run.first, run.end) for run in rest]) == ([], [(3, 6)])
    while world.fanout.graph.settle(1):
        pass
    _, rest = world.fanout.route(runs, batch_bytes=len(b"5|P|7|3\n") + 1)
    assert rest == []


# Broadcasts are stored once.


@pytest.mark.parametrize("contents", [["B"], ["B", "B"], ["B", "P|9|1", "B"], ["B", "F|1|1"]])
def test_sessions_with_broadcasts_alone_share_one_object(contents: list[str]) -> None:
    payloads = World(1, 2, 3, 4, 4).payloads(*contents)
    shared = payloads["2"]
    assert all(payloads[session] is shared for session in ("3", "4", "4/2"))
    lines = [b"%d|B\n" % number for number, text in enumerate(contents, 1) if text == "B"]
    assert bytes_of(shared) == b"".join(lines)


def test_all_sessions_share_one_object_if_none_got_anything_of_its_own() -> None:
    payloads = World(*range(100)).payloads("B", "S|5", "U|1|2", "B")
    assert len(payloads) == 100
    assert len({id(payload) for payload in payloads.values()}) == 1


def test_the_sessions_of_a_user_share_one_object() -> None:
    world = World(1, 1, 2, 1)
    payloads = world.payloads("F|1|9", "P|9|1", "B", "S|9", "P|9|2")
    assert payloads["1"] is payloads["1/2"] is payloads["1/3"] is not payloads["2"]
    assert bytes_of(payloads["1"]) == b"2|P|9|1\n3|B\n4|S|9\n"
    assert payloads["1"].hold() == payloads["1"].size
    assert [payloads["1"].hold(), payloads["1"].release()] == [0, 0]
    counts = {
        kind: (deliveries, size) for kind, (_, deliveries, size) in world.fanout.tallies().items()
    }
    assert counts == {b"F": (0, 0), b"U": (0, 0), b"B": (4, 16), b"P": (4, 32), b"S": (3, 18)}


def test_long_slices_of_the_tape_are_referred_to_and_short_ones_copied() -> None:
    world = World(1, 2)
    payloads = world.payloads("P|9|1", *["B"] * 2000, "P|9|1", "B", "P|9|1", *["B"] * 1000, "P|9|1")
    own, shared = payloads["1"], payloads["2"]
    tape = own.tape.data
    assert own.tape is shared.tape
    assert shared.parts == [tape]
    assert (shared.size, shared.own_size) == (len(tape), 0)
    first, long, between, also_long, last = own.parts
    assert (first, between, last) == (
        b"1|P|9|1\n",
        b"2002|P|9|1\n2003|B\n2004|P|9|1\n",
        b"3005|P|9|1\n",
    )
    assert isinstance(long, memoryview)
    assert isinstance(also_long, memoryview)
    assert long.obj is also_long.obj is tape
    assert own.own_size == len(first) + len(between) + len(last)
    assert bytes_of(own) == b"".join(
        b"%d|P|9|1\n" % n if n in {1, 2002, 2004, 3005} else b"%d|B\n" % n for n in range(1, 3006)
    )


# Bounds.


def test_routing_stops_behind_the_event_that_reaches_the_bound_of_a_payload() -> None:
    world = World(1)
    runs, _ = Decoder().feed(b"1|B\n2|P|9|5\n3|P|9|1\n4|B\n9|B\n")
    payloads, rest = world.fanout.route(runs, 12)
    assert [bytes_of(payload) for _, payload in payloads] == [b"1|B\n3|P|9|1\n"]
    assert [(run.first, run.end) for run in rest] == [(4, 5), (9, 10)]
    payloads, rest = world.fanout.route(rest, 1)
    assert [bytes_of(payload) for _, payload in payloads] == [b"4|B\n"]
    assert [(run.first, run.end) for run in rest] == [(9, 10)]
    payloads, rest = world.fanout.route(rest, 4)
    assert [bytes_of(payload) for _, payload in payloads] == [b"9|B\n"]
    assert rest == []


def test_what_goes_to_nobody_does_not_count_towards_the_bound() -> None:
    runs, _ = Decoder().feed(b"1|P|9|5\n2|F|9|5\n3|S|9\n4|U|9|5\n5|P|9|1\n")
    ((_, payload),), rest = World(1).fanout.route(runs, 1)
    assert bytes_of(payload) == b"5|P|9|1\n"
    assert rest == []


def test_routing_stops_behind_the_event_that_reaches_the_bound_of_all() -> None:
    """What the sessions of a user share is stored once."""
    world = World(1, 1, 1, 2)
    runs, _ = Decoder().feed(b"1|B\n2|P|9|1\n3|B\n")
    payloads, rest = world.fanout.route(runs, batch_bytes=4 + 8)
    assert {bytes_of(payload) for _, payload in payloads} == {b"1|B\n2|P|9|1\n", b"1|B\n"}
    assert [(run.first, run.end) for run in rest] == [(3, 4)]


# A graph that is full.


def test_a_follow_for_which_there_is_no_room_is_notified_but_does_not_hold() -> None:
    world = World(1, 2, 9, max_follows=1)
    assert world.route("F|1|9", "F|2|9", "S|9", "F|1|9") == {"9": "1 2 4", "1": "3"}
    assert world.fanout.refused == [Reject(Reason.GRAPH_FULL, b"2|F|2|9\n", 2)]


def test_a_refused_follow_of_someone_who_is_not_connected_is_told_as_well() -> None:
    world = World(1, max_users=1)
    assert world.route("B", "F|1|9", "F|2|9", "F|3|9") == {"1": "1"}
    assert [reject.sequence for reject in world.fanout.refused] == [3, 4]


def test_the_refused_are_those_of_the_last_batch_up_to_where_it_ended() -> None:
    world = World(9, max_follows=0)
    runs, _ = Decoder().feed(b"1|F|1|9\n2|F|2|9\n3|F|3|9\n")
    _, rest = world.fanout.route(runs, 10)
    assert [reject.sequence for reject in world.fanout.refused] == [1, 2]
    assert world.fanout.route(rest, 10)[1] == []
    assert [reject.sequence for reject in world.fanout.refused] == [3]
    world.route("B")
    assert world.fanout.refused == []


# How much memory is held.


def test_what_is_shared_is_held_once() -> None:
    payloads = World(1, 2, 3).payloads("P|9|1", *["B"] * 2000)
    own, shared = payloads["1"], payloads["2"]
    tape = len(own.tape.data)
    assert payloads["3"] is shared
    assert own.hold() == len(b"1|P|9|1\n") + tape
    assert [shared.hold(), shared.hold()] == [0, 0]
    assert own.release() == len(b"1|P|9|1\n")
    assert [shared.release(), shared.release()] == [0, tape]


def test_a_payload_that_refers_to_nothing_shared_holds_its_own_bytes() -> None:
    payload = World(1).payloads("P|9|1", "B")["1"]
    assert payload.hold() == payload.release() == payload.size == len(b"1|P|9|1\n2|B\n")
