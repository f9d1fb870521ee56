"""The follow graph: its bounds on users and follows."""

from collections.abc import Callable

import pytest

from maze.core import FollowGraph

from .checked_graph import Graph


def test_a_follow_beyond_the_bound_on_follows_is_refused_and_changes_nothing() -> None:
    graph = Graph(max_follows=2)
    one, _ = graph.join(1, 4)
    assert graph.follow(1, 9)
    assert graph.follow(2, 9)
    for follower, followed in [(1, 8), (3, 9), (4, 9), (4, 4)]:
        assert not graph.follow(follower, followed)
    assert (graph.users, graph.follows) == (2, 2)
    assert set(graph.audience(9)) == {one}
    assert not graph.audience(8)
    assert graph.following(3) == graph.following(4) == frozenset()


def test_a_follow_of_one_user_too_many_is_refused() -> None:
    graph = Graph(max_users=2)
    graph.join(3)
    assert graph.follow(1, 9)
    assert graph.follow(2, 9)
    assert not graph.follow(3, 9)
    assert not graph.audience(9)
    assert graph.follow(2, 8), "of those who follow somebody any number of follows is kept"
    assert (graph.users, graph.follows) == (2, 3)


def test_a_follow_too_many_by_one_user_is_refused() -> None:
    graph = Graph(max_follows_per_user=2)
    (one,) = graph.join(1)
    assert graph.follow(1, 7)
    assert graph.follow(1, 8)
    assert not graph.follow(1, 9)
    assert graph.follow(1, 8), "it holds already"
    assert graph.follow(2, 9), "another user's"
    assert not graph.audience(9)
    assert graph.follows == 3
    graph.unfollow(1, 7)
    assert graph.follow(1, 9)
    assert set(graph.audience(9)) == {one}


@pytest.mark.parametrize("bound", ["max_users", "max_follows", "max_follows_per_user"])
def test_a_follow_that_holds_already_holds_in_a_full_graph(bound: str) -> None:
    graph = Graph(**{bound: 1})
    assert graph.follow(1, 9)
    assert graph.follow(1, 9)
    assert not graph.follow(1 if bound == "max_follows_per_user" else 2, 8)
    assert (graph.users, graph.follows) == (1, 1)


@pytest.mark.parametrize("bound", ["max_users", "max_follows"])
@pytest.mark.parametrize("make_room", [lambda graph: graph.unfollow(1, 9), Graph.clear])
def test_a_graph_that_was_full_has_room_again(
    bound: str, make_room: Callable[[Graph], None]
) -> None:
    graph = Graph(**{bound: 1})
    (two,) = graph.join(2)
    graph.follow(1, 9)
    assert not graph.follow(2, 9)
    make_room(graph)
    assert (graph.users, graph.follows) == (0, 0)
    assert graph.follow(2, 9)
    assert set(graph.audience(9)) == {two}


@pytest.mark.parametrize("sessions", [0, 1, 200])
def test_the_bounds_do_not_depend_on_who_is_connected(sessions: int) -> None:
    graph = Graph(max_follows=6)
    FollowGraph.follow(graph, 7, 8)
    FollowGraph.follow(graph, 7, 9)
    graph.join(*[7] * sessions)
    assert [graph.follow(1, followed) for followed in range(5)] == [True] * 4 + [False]
    graph.join(1, 1, 1)
    assert not graph.follow(1, 4)


def test_a_refused_follow_is_a_stranger_to_unfollow() -> None:
    graph = Graph(max_follows=1)
    graph.join(1, 2)
    graph.follow(1, 9)
    graph.follow(2, 9)
    graph.unfollow(2, 9)
    assert (graph.users, graph.follows) == (1, 1)


def test_nothing_is_kept_of_a_user_whose_follow_was_refused() -> None:
    graph = Graph(max_follows=1)
    graph.follow(1, 9)
    graph.follow(2, 9)
    assert graph._users() == [1]
