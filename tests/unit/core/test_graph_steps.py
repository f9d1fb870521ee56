"""The follow graph: audiences that are entered and left in steps."""

from functools import partial
from random import Random

import pytest

from maze.core import FollowGraph, Recipient

from .checked_graph import Graph


def crowded(follows: int = 6, at_once: int = 0) -> tuple[Graph, Recipient]:
    """A graph, and a session of user 1, who follows users 10 to 10 + ``follows`` - 1."""
    graph = Graph(at_once=at_once)
    for followed in range(10, 10 + follows):
        graph.follow(1, followed)
    (one,) = graph.join(1)
    return graph, one


def audiences(graph: FollowGraph, follows: int = 6) -> list[list[Recipient]]:
    return [list(graph.audience(followed)) for followed in range(10, 10 + follows)]


def steps_of(graph: FollowGraph, limit: int) -> int:
    """In how many steps the graph settles."""
    return 1 + sum(1 for _ in iter(partial(graph.settle, limit), False))


def test_a_few_audiences_are_entered_and_left_at_once() -> None:
    graph, one = crowded(at_once=6)
    assert not graph.settle(1)
    assert audiences(graph) == [[one]] * 6
    graph.disconnect(one)
    assert not graph.settle(1)


@pytest.mark.parametrize("limit", [1, 2, 5])
def test_many_audiences_are_entered_and_left_in_steps_and_nobody_is_missed(limit: int) -> None:
    graph, one = crowded()
    assert graph.entering == 1
    while graph.settle(limit):
        assert audiences(graph) == [[one]] * 6
    assert audiences(graph) == [[one]] * 6
    assert graph.entering == 0
    graph.disconnect(one)
    assert audiences(graph) == [[]] * 6
    while graph.settle(limit):
        assert audiences(graph) == [[]] * 6
    assert graph.following(1) == set(range(10, 16))


def test_a_step_is_as_long_as_it_may_be() -> None:
    graph, one = crowded()
    assert steps_of(graph, 4) == 2
    graph.disconnect(one)
    assert steps_of(graph, 1) == 6
    graph = Graph(at_once=2)
    for user in range(3):
        for followed in range(10, 16):
            graph.follow(user, followed)
    recipients = graph.join(0, 1, 2)
    assert steps_of(graph, 4) == 3
    for recipient in recipients:
        graph.disconnect(recipient)
    assert steps_of(graph, 6) == 2


def test_another_session_of_a_user_enters_nothing_and_the_first_to_leave_leaves_nothing() -> None:
    graph, one = crowded()
    graph.join(1)
    assert steps_of(graph, 1) == 6
    graph.disconnect(one)
    assert not graph.settle(1)


@pytest.mark.parametrize("steps", range(7))
def test_a_user_may_come_back_while_leaving_and_leave_while_entering(steps: int) -> None:
    graph, one = crowded()
    for _ in range(steps):
        graph.settle(1)
    graph.disconnect(one)
    assert audiences(graph) == [[]] * 6
    assert graph.settle(1) == (steps > 1)
    graph.connect(one)
    assert audiences(graph) == [[one]] * 6
    while graph.settle(1):
        assert audiences(graph) == [[one]] * 6
    graph.disconnect(one)
    while graph.settle(1):
        pass
    assert sorted(graph._users()) == [1]
    for followed in range(10, 16):
        graph.unfollow(1, followed)
    assert graph._users() == []


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("steps", [0, 3])
def test_follows_and_unfollows_meanwhile_hold_at_once(steps: int, connected: bool) -> None:
    graph, one = crowded()
    if not connected:
        while graph.settle(10):
            pass
        graph.disconnect(one)
    for _ in range(steps):
        graph.settle(1)
    heard = [one] if connected else []
    for followed in range(20, 23):
        assert graph.follow(1, followed)
        assert graph.follow(1, followed)
        assert graph.audience(followed) == heard
    for followed in (*range(10, 13), 20):
        graph.unfollow(1, followed)
        graph.unfollow(1, followed)
        assert graph.audience(followed) == []
    assert graph.following(1) == {13, 14, 15, 21, 22}
    assert (graph.users, graph.follows, graph.listeners) == (1, 5, 5 * connected)
    while graph.settle(1):
        pass
    assert graph.following(1) == {13, 14, 15, 21, 22}
    assert [graph.audience(followed) for followed in (14, 22)] == [heard, heard]


@pytest.mark.parametrize("connected", [True, False])
def test_the_bounds_hold_meanwhile(connected: bool) -> None:
    graph = Graph(max_users=1, max_follows=7, max_follows_per_user=6, at_once=3)
    for followed in range(10, 16):
        assert graph.follow(1, followed)
    (one,) = graph.join(1)
    if not connected:
        graph.disconnect(one)
    for _ in range(5):
        assert not graph.follow(1, 16)
        assert not graph.follow(2, 16)
        assert all(graph.follow(1, followed) for followed in range(10, 16))
        graph.settle(1)
    for followed in range(10, 16):
        graph.unfollow(1, followed)
    assert graph.follow(2, 16)


@pytest.mark.parametrize("connected", [True, False])
def test_clear_ends_it(connected: bool) -> None:
    graph, one = crowded()
    graph.settle(3)
    if not connected:
        graph.disconnect(one)
    detached = graph.clear()
    assert graph.entering == 0
    assert not graph.settle(1)
    assert graph._users() == ([1] if connected else [])
    graph.follow(1, 10)
    assert graph.audience(10) == ([one] if connected else [])
    detached.free()
    assert graph.following(1) == {10}


def test_many_may_come_and_go_at_a_time() -> None:
    random = Random(4)
    graph = FollowGraph(at_once=3)
    connected = dict[int, Recipient]()
    for user in range(300):
        for followed in random.sample(range(500), 40):
            graph.follow(user, followed)
    for step in range(1_500):
        user = random.randrange(300)
        if user in connected:
            graph.disconnect(connected.pop(user))
        else:
            connected[user] = Recipient(user)
            graph.connect(connected[user])
        graph.settle(random.randrange(90))
        if step % 100 == 0:
            graph._check()
    while graph.settle(50):
        pass
    graph._check()
    assert graph.listeners == 40 * len(connected)
