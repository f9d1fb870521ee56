"""The follow graph: who follows whom, and who is connected."""

import sys
from random import Random

import pytest

from maze.core import FollowGraph, Recipient, graph

from .checked_graph import Graph


def test_nobody_follows_and_nobody_is_connected_at_first() -> None:
    graph = Graph()
    assert not graph.following(1)
    assert not graph.audience(1)
    assert not graph.of_user(1)
    assert not graph.recipients


def test_a_follower_who_is_connected_is_in_the_audience() -> None:
    graph = Graph()
    one, two, _ = graph.join(1, 2, 3)
    graph.follow(1, 9)
    graph.follow(2, 9)
    assert set(graph.audience(9)) == {one, two}
    assert not graph.audience(1)


def test_who_follows_whom_does_not_depend_on_who_is_online() -> None:
    graph = Graph()
    graph.follow(1, 9)
    graph.follow(1, 8)
    graph.unfollow(1, 8)
    assert graph.following(1) == {9}
    assert not graph.audience(9)
    (one,) = graph.join(1)
    assert set(graph.audience(9)) == {one}
    assert not graph.audience(8)
    graph.disconnect(one)
    assert graph.following(1) == {9}
    assert not graph.audience(9)


def test_a_double_follow_is_one_follow_and_one_unfollow_undoes_it() -> None:
    graph = Graph()
    (one,) = graph.join(1)
    graph.follow(1, 9)
    graph.follow(1, 9)
    assert list(graph.audience(9)) == [one]
    graph.unfollow(1, 9)
    assert not graph.audience(9)
    assert not graph.following(1)


@pytest.mark.parametrize("connected", [True, False])
def test_an_unfollow_of_a_stranger_changes_nothing(connected: bool) -> None:
    graph = Graph()
    if connected:
        graph.join(1, 2, 9)
    graph.unfollow(1, 9)
    graph.follow(1, 8)
    graph.follow(2, 9)
    graph.unfollow(1, 9)
    graph.unfollow(9, 1)
    assert graph.following(1) == {8}
    assert graph.following(2) == {9}
    assert len(graph.audience(9)) == connected


def test_a_self_follower_is_its_own_audience() -> None:
    graph = Graph()
    (one,) = graph.join(1)
    graph.follow(1, 1)
    assert set(graph.audience(1)) == {one}
    graph.disconnect(one)
    assert not graph.audience(1)
    (again,) = graph.join(1)
    assert set(graph.audience(1)) == {again}
    graph.unfollow(1, 1)
    assert not graph.audience(1)


def test_to_be_followed_is_not_to_follow() -> None:
    graph = Graph()
    one, two = graph.join(1, 2)
    graph.follow(1, 2)
    assert set(graph.audience(2)) == {one}
    assert not graph.audience(1)
    graph.follow(2, 1)
    assert set(graph.audience(1)) == {two}


def test_every_session_of_a_user_counts() -> None:
    graph = Graph()
    phone, tablet = graph.join(1, 1)
    graph.follow(1, 9)
    (laptop,) = graph.join(1)
    assert list(graph.of_user(1)) == [phone, tablet, laptop]
    assert set(graph.audience(9)) == {phone, tablet, laptop}
    graph.unfollow(1, 9)
    assert not graph.audience(9)
    assert len(graph.of_user(1)) == 3


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2), (1, 2, 0)])
def test_sessions_of_a_user_leave_in_any_order(order: tuple[int, ...]) -> None:
    graph = Graph()
    graph.follow(1, 9)
    sessions = graph.join(1, 1, 1)
    left = set(sessions)
    for index in order:
        graph.disconnect(sessions[index])
        left.remove(sessions[index])
        assert set(graph.audience(9)) == set(graph.recipients) == left
        assert list(graph.of_user(1)) == [one for one in sessions if one in left]


def test_two_sessions_of_a_user_are_two_recipients() -> None:
    graph = Graph()
    one, two = Recipient(1), Recipient(1)
    graph.connect(one)
    graph.connect(two)
    graph.disconnect(one)
    assert list(graph.recipients) == [two]


def test_recipients_are_kept_in_the_order_of_connecting() -> None:
    graph = Graph()
    three, one, two = graph.join(3, 1, 2)
    assert list(graph.recipients) == [three, one, two]
    graph.disconnect(one)
    graph.connect(one)
    assert list(graph.recipients) == [three, two, one]


def test_someone_who_leaves_is_missed_in_their_own_audiences_only() -> None:
    graph = Graph()
    one, two = graph.join(1, 2)
    for followed in (7, 8, 9):
        graph.follow(1, followed)
    graph.follow(2, 8)
    graph.disconnect(one)
    assert [set(graph.audience(user)) for user in (7, 8, 9)] == [set(), {two}, set()]


def test_an_unfollow_reaches_back_to_before_the_connection() -> None:
    graph = Graph()
    graph.follow(1, 9)
    graph.join(1)
    graph.unfollow(1, 9)
    assert not graph.audience(9)


def test_user_0_is_a_user_like_any_other() -> None:
    graph = Graph()
    (zero,) = graph.join(0)
    graph.follow(0, 0)
    graph.follow(0, 2**63 - 1)
    assert set(graph.audience(0)) == set(graph.audience(2**63 - 1)) == {zero}


def test_clear_forgets_who_follows_whom_and_recipients_stay_connected() -> None:
    graph = Graph()
    one, two = graph.join(1, 2)
    graph.follow(1, 2)
    graph.follow(3, 2)
    graph.clear()
    assert not graph.following(1)
    assert not graph.following(3)
    assert not graph.audience(2)
    assert list(graph.recipients) == [one, two]
    graph.follow(1, 2)
    assert set(graph.audience(2)) == {one}
    graph.clear()
    graph.disconnect(one)
    assert list(graph.recipients) == [two]


def test_what_was_forgotten_is_freed_apart_and_only_once() -> None:
    graph = Graph()
    (one,) = graph.join(1)
    for follower in range(100):
        graph.follow(follower, 100 - follower)
    detached = graph.clear()
    graph.follow(1, 2)
    for _ in range(2):
        detached.free()
        assert graph.following(1) == {2}
        assert list(graph.audience(2)) == [one]
    assert graph.clear() is not detached


@pytest.mark.parametrize("sessions", [[], [7], [7, 7], [7, 8, 7, 9], list(range(300))])
def test_a_graph_that_was_cleared_has_the_users_who_have_sessions(sessions: list[int]) -> None:
    graph = Graph()
    recipients = graph.join(*sessions)
    for follower in range(0, 600, 2):
        graph.follow(follower, follower + 1)
    graph.clear()
    assert sorted(graph._users()) == sorted(set(sessions))
    assert list(graph.recipients) == recipients
    for user in set(sessions):
        assert list(graph.of_user(user)) == [one for one in recipients if one.user == user]
    for recipient in recipients:
        graph.disconnect(recipient)
    assert graph._users() == []


def test_what_was_asked_for_does_not_change_with_the_graph() -> None:
    graph = Graph()
    graph.follow(1, 2)
    before = graph.following(1)
    graph.follow(1, 3)
    assert before == {2}


def test_nothing_is_kept_of_follows_undone_and_of_sessions_gone() -> None:
    graph = Graph()
    (one,) = graph.join(1)
    graph.follow(1, 2)
    graph.unfollow(1, 2)
    graph.disconnect(one)
    assert graph._users() == []
    assert not graph.recipients


def test_listeners_are_pairs_of_a_connected_user_and_whom_it_follows() -> None:
    graph = Graph()
    for followed in (7, 8):
        graph.follow(1, followed)
    assert graph.listeners == 0
    phone, tablet = graph.join(1, 1)
    assert graph.listeners == 2
    graph.follow(1, 9)
    graph.follow(2, 9)
    assert graph.listeners == 3
    graph.unfollow(1, 7)
    graph.disconnect(phone)
    assert graph.listeners == 2
    graph.disconnect(tablet)
    assert graph.listeners == 0
    graph.connect(phone)
    assert graph.listeners == 2
    graph.clear()
    assert graph.listeners == 0


def test_sessions_are_counted_for_each_user() -> None:
    graph = Graph()
    phone, _, _ = graph.join(1, 1, 2)
    graph.follow(4, 3)
    assert [graph.session_count(user) for user in (1, 2, 3, 4)] == [2, 1, 0, 0]
    graph.disconnect(phone)
    assert graph.session_count(1) == 1


def test_any_number_of_users_and_of_follows_is_kept_right() -> None:
    """Enough to make every table grow, wrap around and shrink again."""
    graph, follows = FollowGraph(), dict[int, set[int]]()
    recipients = [Recipient(user) for user in range(0, 400, 40)]
    for recipient in recipients:
        graph.connect(recipient)
    random = Random(1)
    for step in range(30_000):
        one, other = random.randrange(400), random.choice([1, 7, 2**54]) * random.randrange(400)
        if random.random() < (0.8 if step < 15_000 else 0.2):
            graph.follow(one, other)
            follows.setdefault(one, set()).add(other)
        else:
            graph.unfollow(one, other)
            follows.get(one, set()).discard(other)
        if step % 5_000 == 0:
            graph._check()
    graph._check()
    for user in range(400):
        assert graph.following(user) == follows.get(user, set())
    for user, followed in follows.items():
        for other in followed:
            graph.unfollow(user, other)
    for recipient in recipients:
        graph.disconnect(recipient)
    assert graph._users() == []


def test_users_are_found_before_and_after_their_table_is_split() -> None:
    """The compiled twin splits its table of users when there are 32,768 of them."""
    people, reader = FollowGraph(), Recipient(0)
    people.connect(reader)
    for user in range(1, 33_000):
        people.follow(user, user + 1)
        people.follow(0, user)
    people._check()
    assert sorted(people._users()) == list(range(33_000))
    assert all(people.audience(user) == [reader] for user in range(1, 33_000))
    assert all(people.following(user) == {user + 1} for user in range(1, 33_000))
    for user in range(1, 33_000):
        people.unfollow(user, user + 1)
        people.unfollow(0, user)
    people._check()
    assert people._users() == [0]
    people.clear()
    people.follow(5, 6)
    people._check()
    assert sorted(people._users()) == [0, 5]


def test_a_user_who_unfollowed_nearly_all_follows_the_rest() -> None:
    """Both twins give memory back then; how much can be seen of the pure one alone."""
    people = FollowGraph()
    for followed in range(20_000):
        people.follow(1, followed)
    for followed in range(19_999):
        people.unfollow(1, followed)
    people._check()
    assert people.following(1) == {19_999}
    if isinstance(people, graph.FollowGraph):
        assert sys.getsizeof(people._following[1]) < 4096
    for followed in range(100):
        people.follow(1, followed)
    people._check()
    assert people.following(1) == {*range(100), 19_999}


@pytest.mark.parametrize("users", [[7] * 200, list(range(200)), [1, 2] * 100])
def test_large_audiences_can_be_joined_and_left_in_any_order(users: list[int]) -> None:
    random = Random(9)
    graph = Graph()
    for user in set(users):
        for followed in (1_000, 1_001, user):
            FollowGraph.follow(graph, user, followed)
    connected = graph.join(*users)
    for _ in range(300):
        if connected and random.random() < 0.6:
            graph.disconnect(connected.pop(random.randrange(len(connected))))
        else:
            connected += graph.join(random.choice(users))
        assert set(graph.audience(1_000)) == set(graph.audience(1_001)) == set(connected)
    while connected:
        graph.disconnect(connected.pop())
