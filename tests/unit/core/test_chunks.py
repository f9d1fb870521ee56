"""The follows of a graph as chunks of bytes: the format, and what is refused."""

import struct
from random import Random

import pytest

from maze.core import FollowGraph, Recipient

LARGEST = 2**63 - 1


def packed(*integers: int) -> bytes:
    return struct.pack(f"<{len(integers)}q", *integers)


def loaded(*chunks: bytes) -> FollowGraph:
    graph = FollowGraph()
    for chunk in chunks:
        graph.load(chunk)
    graph._check()
    return graph


def test_a_graph_without_follows_has_no_chunks() -> None:
    graph = FollowGraph()
    graph.connect(Recipient(1))
    assert list(graph.chunks()) == []


def test_a_record_is_a_follower_and_whom_it_follows() -> None:
    graph = FollowGraph()
    graph.follow(7, LARGEST)
    assert list(graph.chunks()) == [packed(7, 1, LARGEST)]


def test_the_follows_of_a_user_are_split_over_chunks() -> None:
    graph = FollowGraph()
    for followed in range(5):
        graph.follow(7, followed)
    chunks = list(graph.chunks(8 * 4 + 7))
    assert [len(chunk) for chunk in chunks] == [32, 32, 24]
    assert {chunk[:16] for chunk in chunks} == {packed(7, 2), packed(7, 1)}
    assert loaded(*chunks).following(7) == set(range(5))


def test_a_chunk_has_as_many_follows_as_fit() -> None:
    graph = FollowGraph()
    for user in range(100):
        graph.follow(user, 1)
    assert [len(chunk) for chunk in graph.chunks(24 * 30)] == [720, 720, 720, 240]
    assert [len(chunk) for chunk in graph.chunks()] == [2400]


@pytest.mark.parametrize("max_bytes", [0, 23])
def test_a_chunk_without_room_for_a_follow_is_refused(max_bytes: int) -> None:
    with pytest.raises(ValueError, match=f"{max_bytes} bytes are too few"):
        list(FollowGraph().chunks(max_bytes))


def test_follows_of_users_who_enter_and_leave_audiences_are_all_there() -> None:
    graph = FollowGraph(at_once=2)
    for user in (1, 2, 3):
        for followed in range(6):
            graph.follow(user, followed)
    leaving = Recipient(1)
    graph.connect(leaving)
    graph.settle(100)
    graph.disconnect(leaving)
    graph.connect(Recipient(2))
    again = loaded(*graph.chunks(40))
    assert [again.following(user) for user in (1, 2, 3)] == [set(range(6))] * 3
    assert (again.users, again.follows) == (3, 18)


@pytest.mark.parametrize(
    "malformed",
    [
        packed(1, 1, 2)[:-1],
        packed(1),
        packed(1, 1),
        packed(1, 0),
        packed(1, -1, 2),
        packed(1, 2, 2),
        packed(1, LARGEST, 2),
        packed(-1, 1, 2),
        packed(1, 1, -2),
    ],
)
def test_of_a_malformed_chunk_nothing_is_added(malformed: bytes) -> None:
    graph = FollowGraph()
    with pytest.raises(ValueError, match="malformed"):
        graph.load(packed(3, 2, 1, 2) + malformed)
    assert (graph.users, graph.follows, graph._users()) == (0, 0, [])


def test_a_follow_that_is_loaded_twice_is_one_follow() -> None:
    graph = loaded(packed(1, 3, 2, 2, 3), packed(1, 1, 3))
    assert (graph.users, graph.follows) == (1, 2)


def test_nothing_is_loaded_while_a_user_is_connected_or_leaving() -> None:
    graph = FollowGraph(at_once=0)
    recipient = Recipient(1)
    graph.follow(1, 2)
    graph.connect(recipient)
    graph.settle(1)
    with pytest.raises(ValueError, match="before users connect"):
        graph.load(packed(1, 1, 3))
    graph.disconnect(recipient)
    with pytest.raises(ValueError, match="before users connect"):
        graph.load(packed(1, 1, 3))
    graph.settle(1)
    graph.load(packed(1, 1, 3))
    assert graph.following(1) == {2, 3}


def test_users_who_were_loaded_connect_as_others_do() -> None:
    graph = loaded(packed(1, 2, 2, 3))
    one = Recipient(1)
    graph.connect(one)
    assert list(graph.audience(3)) == [one]
    assert graph.listeners == 2


def test_bounds_apply_from_when_they_are_set_and_what_is_there_stays() -> None:
    graph = FollowGraph(1, 1, 1)
    graph.load(packed(1, 2, 2, 3, 4, 1, 5))
    assert (graph.users, graph.follows) == (2, 3)
    graph.follow(1, 9)
    assert graph.follows == 3
    graph.set_bounds(2, 5, 3)
    for follower, followed in [(1, 9), (1, 10), (6, 1)]:
        graph.follow(follower, followed)
    assert graph.following(1) == {2, 3, 9}, "the bound of one user"
    assert not graph.following(6), "the bound of users"
    graph.set_bounds(1, 1, 1)
    graph.follow(4, 6)
    assert (graph.users, graph.follows) == (2, 4)


def test_thousands_of_users_with_a_split_table_come_back() -> None:
    """The compiled version splits its table of users when there are 32,768 of them."""
    graph, random = FollowGraph(), Random(5)
    for _ in range(60_000):
        graph.follow(random.randrange(40_000), random.randrange(2**40))
    again = loaded(*graph.chunks(50_000))
    assert (again.users, again.follows) == (graph.users, graph.follows)
    assert all(again.following(user) == graph.following(user) for user in range(40_000))
