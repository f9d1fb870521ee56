"""Routing: who is notified of which event, and the rules without exception."""

from __future__ import annotations

import pytest

from .peers import broadcasts, joined, until
from .running import Maze


def test_follow_notifies_the_followed_user_and_nobody_else(maze: Maze) -> None:
    follower, followed, other = maze.clients(60, 50, 7)
    maze.source().send(b"1|F|60|50\n2|B\n")
    followed.expect(b"1|F|60|50\n2|B\n")
    follower.expect_nothing_before(b"2|B\n")
    other.expect_nothing_before(b"2|B\n")


def test_unfollow_notifies_nobody_and_ends_the_following(maze: Maze) -> None:
    follower, followed, other = maze.clients(12, 9, 7)
    maze.source().send(b"1|F|12|9\n2|S|9\n3|U|12|9\n4|S|9\n5|B\n")
    follower.expect(b"2|S|9\n5|B\n")
    followed.expect(b"1|F|12|9\n5|B\n")
    other.expect_nothing_before(b"5|B\n")


def test_broadcast_notifies_every_connected_client(maze: Maze) -> None:
    clients = maze.clients(1, 2, 3, 4, 5)
    maze.source().send(b"1|B\n2|B\n")
    for client in clients:
        client.expect(b"1|B\n2|B\n")


def test_private_message_notifies_its_recipient_and_nobody_else(maze: Maze) -> None:
    sender, recipient, other = maze.clients(32, 56, 7)
    maze.source().send(b"1|P|32|56\n2|B\n")
    recipient.expect(b"1|P|32|56\n2|B\n")
    sender.expect_nothing_before(b"2|B\n")
    other.expect_nothing_before(b"2|B\n")


def test_private_message_needs_no_following(maze: Maze) -> None:
    (recipient,) = maze.clients(56)
    maze.source().send(b"1|U|56|32\n2|P|32|56\n")
    recipient.expect(b"2|P|32|56\n")


def test_status_update_notifies_every_current_follower(maze: Maze) -> None:
    author, one, two, former, other = maze.clients(32, 1, 2, 3, 7)
    maze.source().send(b"1|F|1|32\n2|F|2|32\n3|F|3|32\n4|U|3|32\n5|S|32\n6|B\n")
    one.expect(b"5|S|32\n6|B\n")
    two.expect(b"5|S|32\n6|B\n")
    author.expect(b"1|F|1|32\n2|F|2|32\n3|F|3|32\n6|B\n")
    former.expect_nothing_before(b"6|B\n")
    other.expect_nothing_before(b"6|B\n")


def test_events_of_one_client_keep_their_order_among_broadcasts(maze: Maze) -> None:
    one, two = maze.clients(1, 2)
    maze.source().send(b"1|B\n2|P|9|1\n3|B\n4|B\n5|F|2|1\n6|P|9|2\n7|S|1\n8|B\n")
    one.expect(b"1|B\n2|P|9|1\n3|B\n4|B\n5|F|2|1\n8|B\n")
    two.expect(b"1|B\n3|B\n4|B\n6|P|9|2\n7|S|1\n8|B\n")


@pytest.mark.parametrize("terminator", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
def test_lines_keep_their_bytes_and_their_terminator(maze: Maze, terminator: bytes) -> None:
    one, two = maze.clients(1, 2)
    lines = [b"1|B", b"2|F|1|2", b"3|U|1|2", b"4|P|2|1", b"5|F|1|2", b"6|S|2", b"7|B"]
    maze.source().send(joined(line + terminator for line in lines))
    one.expect(joined(line + terminator for line in (b"1|B", b"4|P|2|1", b"6|S|2", b"7|B")))
    two.expect(joined(line + terminator for line in (b"1|B", b"2|F|1|2", b"5|F|1|2", b"7|B")))


def test_lines_keep_their_bytes_if_terminators_are_mixed(maze: Maze) -> None:
    (client,) = maze.clients(1)
    stream = b"1|B\r\n2|B\n3|P|9|1\r\n4|B\n"
    maze.source().send(stream)
    client.expect(stream)


def test_leading_zeros_are_forwarded_and_ignored(maze: Maze) -> None:
    seven, eight = maze.client(b"007\n"), maze.client(b"8\n")
    stream = b"01|F|0008|07\n0000000000000000000000002|S|00000000000000000000000007\n003|B\n"
    maze.source().send(stream)
    seven.expect(b"01|F|0008|07\n003|B\n")
    eight.expect(b"0000000000000000000000002|S|00000000000000000000000007\n003|B\n")


def test_the_lowest_and_the_highest_user_id_are_valid(maze: Maze) -> None:
    greatest = 2**63 - 1
    zero, last = maze.clients(0, greatest)
    maze.source().send(b"1|F|0|%d\n2|S|%d\n3|P|0|0\n4|B\n" % (greatest, greatest))
    last.expect(b"1|F|0|%d\n4|B\n" % greatest)
    zero.expect(b"2|S|%d\n3|P|0|0\n4|B\n" % greatest)


def test_events_for_users_who_are_not_connected_are_dropped_silently(maze: Maze) -> None:
    (client,) = maze.clients(1)
    maze.source().send(b"1|P|1|99\n2|F|1|98\n3|S|97\n4|B\n")
    client.expect_nothing_before(b"4|B\n")
    assert maze.rejects() == {}


def test_graph_is_kept_for_users_who_are_not_connected(maze: Maze) -> None:
    source = maze.source()
    source.send(b"1|F|12|9\n2|F|13|9\n3|U|13|9\n")
    maze.await_routed(3)
    follower, former = maze.clients(12, 13)
    source.send(b"4|S|9\n5|B\n")
    follower.expect(b"4|S|9\n5|B\n")
    former.expect_nothing_before(b"5|B\n")


def test_follow_outlives_the_session_of_the_follower(maze: Maze) -> None:
    source = maze.source()
    (client,) = maze.clients(12)
    source.send(b"1|F|12|9\n2|S|9\n")
    client.expect(b"2|S|9\n")
    client.close()
    maze.await_sessions(0)
    source.send(b"3|S|9\n")
    maze.await_routed(3)
    (again,) = maze.clients(12)
    source.send(b"4|S|9\n")
    again.expect_nothing_before(b"4|S|9\n")


def test_client_that_joins_in_mid_stream_gets_what_is_routed_from_then_on(maze: Maze) -> None:
    source = maze.source()
    lines = broadcasts(1, 60_001)
    sending = source.send_in_background(joined(lines[:-1]))
    inboxes = []
    for user in range(10):
        already_routed = maze.server.router.stats.routed_events
        inboxes.append((maze.client(user).read_in_background(), already_routed))
    sending.join()
    source.send(lines[-1])
    for inbox, already_routed in inboxes:
        until(lambda i=inbox: i.so_far().endswith(lines[-1]), "the last event")  # type: ignore[misc]
        received = inbox.so_far().splitlines(keepends=True)
        assert received == lines[-len(received) :]
        assert len(received) <= len(lines) - already_routed


def test_all_sessions_of_a_user_get_the_users_events(maze: Maze) -> None:
    phone, tablet, other = maze.clients(5, 5, 6)
    source = maze.source()
    source.send(b"1|F|5|6\n2|P|6|5\n3|S|6\n4|F|6|5\n5|B\n")
    for device in (phone, tablet):
        device.expect(b"2|P|6|5\n3|S|6\n4|F|6|5\n5|B\n")
    other.expect(b"1|F|5|6\n5|B\n")
    phone.close()
    maze.await_sessions(2)
    source.send(b"6|S|6\n7|P|6|5\n")
    tablet.expect(b"6|S|6\n7|P|6|5\n")


def test_self_follower_receives_its_own_status_updates(maze: Maze) -> None:
    (client,) = maze.clients(5)
    maze.source().send(b"1|F|5|5\n2|S|5\n3|U|5|5\n4|S|5\n5|B\n")
    client.expect(b"1|F|5|5\n2|S|5\n5|B\n")


def test_second_follow_notifies_again_and_one_unfollow_undoes_both(maze: Maze) -> None:
    follower, followed = maze.clients(1, 2)
    maze.source().send(b"1|F|1|2\n2|F|1|2\n3|S|2\n4|U|1|2\n5|S|2\n6|B\n")
    followed.expect(b"1|F|1|2\n2|F|1|2\n6|B\n")
    follower.expect(b"3|S|2\n6|B\n")


def test_unfollow_without_a_follow_changes_nothing(maze: Maze) -> None:
    follower, stranger = maze.clients(1, 2)
    maze.source().send(b"1|U|1|2\n2|U|8|9\n3|F|1|2\n4|S|2\n5|B\n")
    follower.expect(b"4|S|2\n5|B\n")
    stranger.expect(b"3|F|1|2\n5|B\n")
