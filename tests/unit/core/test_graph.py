"""The follow graph; its invariants are checked after every step."""

import sys
from collections.abc import Callable
from functools import partial
from random import Random

import pytest

from maze.core import FollowGraph, Recipient, graph
from maze.core.graph import DetachedGraph


class Graph(FollowGraph):
    """A follow graph that states its invariants after every step."""

    def follow(self, follower: int, followed: int) -> bool:
        holds = super().follow(follower, followed)
        self._check()
        return holds

    def unfollow(self, follower: int, followed: int) -> None:
        super().unfollow(follower, followed)
        self._check()

    def connect(self, recipient: Recipient) -> None:
        super().connect(recipient)
        self._check()

    def disconnect(self, recipient: Recipient) -> None:
        super().disconnect(recipient)
        self._check()

    def settle(self, limit: int) -> bool:
        some_are_left = super().settle(limit)
        self._check()
        return some_are_left

    def clear(self) -> DetachedGraph:
        detached = super().clear()
        self._check()
        return detached

    def join(self, *users: int) -> list[Recipient]:
        """Connect a session of each user."""
        recipients = [Recipient(user) for user in users]
        for recipient in recipients:
            self.connect(recipient)
        return recipients


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


# Audiences are entered and left in steps.


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


# Bounds.


@pytest.mark.parametrize("sessions", [0, 1, 200])
def test_the_bounds_do_not_depend_on_who_is_connected(sessions: int) -> None:
    graph = Graph(max_follows=6)
    FollowGraph.follow(graph, 7, 8)
    FollowGraph.follow(graph, 7, 9)
    graph.join(*[7] * sessions)
    assert [graph.follow(1, followed) for followed in range(5)] == [True] * 4 + [False]
    graph.join(1, 1, 1)
    assert not graph.follow(1, 4)


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
