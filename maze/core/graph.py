"""Keeps who follows whom, and which of the followers are connected.

There are two indexes:

  - ``following[user]`` holds the users whom a user follows, for **all** users, so that the graph
    does not depend on who is online;
  - ``audience[user]`` holds only the connected followers of a user, so that a status update
    touches nobody else (measured on ten million events: 9 s with this index, 46 s without).

An audience holds users, each with all its sessions. All audiences together therefore never have
more entries than there are follows, and a second session of a user costs nothing. The graph is
bounded: a follow beyond a bound is refused and changes nothing. Which follows are refused depends
only on the stream, never on who is connected.

With its first session, a user enters the audiences of all users it follows; after its last
session, it leaves them. If there are many, ``settle`` does this in steps, so that other work is
not delayed. The users that a user follows are therefore kept in two sets: those whose audiences
it has joined (``Member.joined``), and the others. A status update goes to the members of the
sender's audience who have sessions, and to the followers who have yet to enter that audience.
"""

import sys
from collections.abc import Collection, Iterator
from functools import partial
from typing import TypeVar

from maze.core.chunks import CHUNK_BYTES, chunks_of, records

AT_ONCE = 100
"""Audiences that a user enters or leaves at once when it connects or disconnects (about 0.1 ms; up
to fifty users may do so in one turn of the event loop). The rest is left to ``settle``."""

REFUSED, CHANGED, UNCHANGED = 0, 1, 2
"""Results of ``FollowGraph.follow``. All but REFUSED are true: the follow holds from then on."""

Item = TypeVar("Item")


class Recipient:
    """A session as the core knows it: one connected client of a user."""

    __slots__ = ("user",)

    def __init__(self, user: int) -> None:
        self.user = user


class Member:
    """A user who is connected, or who is disconnected and has yet to leave audiences.

    All its sessions get the same bytes from a batch.
    """

    __slots__ = ("joined", "sessions", "user")

    def __init__(self, user: int) -> None:
        self.user = user
        self.sessions: dict[Recipient, None] = {}
        self.joined: set[int] = set()
        """The users it follows whose audiences it is in."""


class DetachedGraph:
    """The contents of a graph that was cleared. Freeing a million users takes half a second."""

    def __init__(self, *parts: dict[int, set[int]] | dict[int, set[Member]] | dict[int, Member]):
        self._parts = parts

    def free(self) -> None:
        """Free the contents. Other threads can run meanwhile."""
        for part in self._parts:
            while part:
                part.popitem()


class FollowGraph:
    """The follow graph of all users, and the recipients of those who are connected.

    ``max_users`` bounds the users who follow others, ``max_follows`` the follows of all users
    together, and ``max_follows_per_user`` the follows of one user. ``at_once`` is the number of
    audiences that a user enters or leaves without ``settle``.
    """

    def __init__(
        self,
        max_users: int = sys.maxsize,
        max_follows: int = sys.maxsize,
        max_follows_per_user: int = sys.maxsize,
        *,
        at_once: int = AT_ONCE,
    ) -> None:
        self._max_users = max_users
        self._max_follows = max_follows
        self._max_per_user = max_follows_per_user
        self._at_once = at_once
        self.users = 0
        """Number of users who follow at least one user."""
        self.follows = 0
        """Number of follows of all users together."""
        self.listeners = 0
        """Number of pairs of a connected user and a user it follows."""
        self._following: dict[int, set[int]] = {}  # except those in ``Member.joined``
        self._audience: dict[int, set[Member]] = {}
        self._members: dict[int, Member] = {}
        self._entering: dict[Member, None] = {}
        self._leaving: dict[Member, None] = {}
        self.recipients: dict[Recipient, None] = {}
        """Connected recipients, in order of connecting; a dictionary as an ordered set."""

    @property
    def entering(self) -> int:
        """Number of users who have not entered all their audiences yet."""
        return len(self._entering)

    def follow(self, follower: int, followed: int) -> int:
        """Make ``follower`` follow ``followed``; idempotent, O(1).

        Return CHANGED, UNCHANGED if the follow held already, or REFUSED if the graph has no room
        for it.
        """
        member = self._members.get(follower)
        apart = self._following.get(follower, ())
        joined = member.joined if member is not None else ()
        if followed in apart or followed in joined:
            return UNCHANGED
        count = len(apart) + len(joined)
        if self.follows >= self._max_follows or count >= self._max_per_user:
            return REFUSED
        if not count and self.users >= self._max_users:
            return REFUSED
        self.users += not count
        self.follows += 1
        if member is not None and member.sessions:
            self.listeners += 1
            self._join_audience(member, followed)
        else:
            self._following.setdefault(follower, set()).add(followed)
        return CHANGED

    def unfollow(self, follower: int, followed: int) -> bool:
        """Remove a follow, however often it was made; return whether there was one."""
        member = self._members.get(follower)
        apart = self._following.get(follower, set())
        joined = member.joined if member is not None else set()
        if followed in apart:
            apart.remove(followed)
            self._keep_apart(follower, _compact(apart))
        elif member is not None and followed in joined:
            joined.remove(followed)
            member.joined = _compact(joined)
            self._leave_audience(member, followed)
        else:
            return False
        self.follows -= 1
        self.users -= not (apart or joined)
        self.listeners -= member is not None and bool(member.sessions)
        return True

    def connect(self, recipient: Recipient) -> None:
        """Add a recipient. If it is the user's first, the user enters audiences."""
        self.recipients[recipient] = None
        user = recipient.user
        member = self._members.get(user)
        if member is None:
            member = self._members[user] = Member(user)
        member.sessions[recipient] = None
        if len(member.sessions) == 1:
            self._leaving.pop(member, None)
            self.listeners += self._follows_of(member)
            if self._enter(member, self._at_once)[1]:
                self._entering[member] = None

    def disconnect(self, recipient: Recipient) -> None:
        """Remove a connected recipient. If it is the user's last, the user leaves audiences."""
        del self.recipients[recipient]
        member = self._members[recipient.user]
        del member.sessions[recipient]
        if not member.sessions:
            self._entering.pop(member, None)
            self.listeners -= self._follows_of(member)
            if self._leave(member, self._at_once)[1]:
                self._leaving[member] = None

    def settle(self, limit: int) -> bool:
        """Enter and leave up to ``limit`` audiences for users who connected or disconnected.

        Return whether any audiences are left. What the sessions get does not change.
        """
        for members, move in ((self._entering, self._enter), (self._leaving, self._leave)):
            while members and limit:
                member, _ = members.popitem()
                limit, some_are_left = move(member, limit)
                if some_are_left:
                    members[member] = None
        return bool(self._entering or self._leaving)

    def session_count(self, user: int) -> int:
        """Return how many recipients the user has."""
        member = self._members.get(user)
        return 0 if member is None else len(member.sessions)

    def of_user(self, user: int) -> list[Recipient]:
        """Return a user's recipients, one for each session, in order of connecting."""
        return [recipient for member in self.member(user) for recipient in member.sessions]

    def audience(self, user: int) -> list[Recipient]:
        """Return the recipients of all connected users who follow the user."""
        return [recipient for member in self.followers(user)[0] for recipient in member.sessions]

    def member(self, user: int) -> Collection[Member]:
        """Return the member of the user, in a collection that is empty if the user is offline."""
        member = self._members.get(user)
        return (member,) if member is not None and member.sessions else ()

    def followers(self, user: int) -> tuple[Collection[Member], int]:
        """Return the connected followers of the user, and how many users had to be checked.

        The users to check are those who are entering audiences and those who have yet to leave
        this one.
        """
        members: Collection[Member] = self._audience.get(user, ())
        asked = self.entering
        if self._leaving:
            present = [member for member in members if member.sessions]
            asked += len(members) - len(present)
            members = present
        if self._entering:
            members = [*members, *filter(partial(self._is_apart, user), self._entering)]
        return members, asked

    def following(self, user: int) -> frozenset[int]:
        """Return the users that the user follows."""
        member = self._members.get(user)
        return frozenset(self._following.get(user, ())).union(member.joined if member else ())

    def clear(self) -> DetachedGraph:
        """Forget who follows whom; recipients stay connected. O(recipients).

        Return the old contents, for the caller to free.
        """
        detached = DetachedGraph(self._following, self._audience, self._members)
        self._following, self._audience, self._members = {}, {}, {}
        self._entering, self._leaving = {}, {}
        self.users = self.follows = self.listeners = 0
        for recipient in self.recipients:
            user = recipient.user
            self._members.setdefault(user, Member(user)).sessions[recipient] = None
        return detached

    def set_bounds(self, max_users: int, max_follows: int, max_follows_per_user: int) -> None:
        """Apply these bounds to the follows from now on. Existing follows stay."""
        self._max_users = max_users
        self._max_follows = max_follows
        self._max_per_user = max_follows_per_user

    def chunks(self, max_bytes: int = CHUNK_BYTES) -> Iterator[bytes]:
        """Return all follows as chunks of at most ``max_bytes``; the graph must not change.

        ``chunks`` describes the format.
        """
        users = self._following.keys() | self._members.keys()
        return chunks_of(((user, self.following(user)) for user in users), max_bytes)

    def load(self, chunk: bytes) -> None:
        """Add the follows of a chunk, whatever the bounds are.

        Raise ValueError, and add nothing, if the chunk is malformed or a user is connected.
        """
        if self._members:
            raise ValueError("follows are loaded before users connect")
        for follower, followed in records(chunk):
            apart = self._following.setdefault(follower, set())
            self.users += not apart
            self.follows -= len(apart)
            apart.update(followed)
            self.follows += len(apart)

    def _enter(self, member: Member, limit: int) -> tuple[int, bool]:
        """Enter up to ``limit`` audiences; return the unused limit and whether any are left."""
        apart = self._following.get(member.user, set())
        while apart and limit:
            self._join_audience(member, apart.pop())
            limit -= 1
        self._keep_apart(member.user, apart)
        return limit, bool(apart)

    def _leave(self, member: Member, limit: int) -> tuple[int, bool]:
        """Leave up to ``limit`` audiences; return the unused limit and whether any are left."""
        apart = self._following.get(member.user, set())
        while member.joined and limit:
            followed = member.joined.pop()
            self._leave_audience(member, followed)
            apart.add(followed)
            limit -= 1
        self._keep_apart(member.user, apart)
        if not member.joined:
            del self._members[member.user]
        return limit, bool(member.joined)

    def _keep_apart(self, user: int, apart: set[int]) -> None:
        """Store which users the user follows without being in their audiences."""
        if apart:
            self._following[user] = apart
        else:
            self._following.pop(user, None)

    def _is_apart(self, followed: int, member: Member) -> bool:
        return followed in self._following.get(member.user, ())

    def _follows_of(self, member: Member) -> int:
        return len(self._following.get(member.user, ())) + len(member.joined)

    def _join_audience(self, member: Member, followed: int) -> None:
        self._audience.setdefault(followed, set()).add(member)
        member.joined.add(followed)

    def _leave_audience(self, member: Member, followed: int) -> None:
        audience = self._audience[followed]
        audience.remove(member)
        if not audience:
            del self._audience[followed]
        else:
            self._audience[followed] = _compact(audience)

    def _users(self) -> list[int]:
        """Return the ids of all users in the graph; for the tests."""
        return list(self._following.keys() | self._audience.keys() | self._members.keys())

    def _check(self) -> None:
        """Assert the invariants; for the tests."""
        audience: dict[int, set[Member]] = {}
        sessions: set[Recipient] = set()
        for user, member in self._members.items():
            apart = self._following.get(user, set())
            assert member.user == user
            assert all(recipient.user == user for recipient in member.sessions)
            assert not member.joined & apart
            assert (member in self._entering) >= bool(member.sessions and apart)
            assert (member in self._leaving) == (not member.sessions)
            sessions.update(member.sessions)
            for followed in member.joined:
                audience.setdefault(followed, set()).add(member)
        assert audience == self._audience
        assert all(member.sessions for member in self._entering)
        assert {*self._entering, *self._leaving} <= {*self._members.values()}
        assert sessions == self.recipients.keys()
        assert all(self._following.values())
        following = list(map(self.following, self._following.keys() | self._members.keys()))
        assert self.users == sum(map(bool, following))
        assert self.follows == sum(map(len, following))
        online = {recipient.user for recipient in self.recipients}
        assert self.listeners == sum(len(self.following(user)) for user in online)


def _compact(items: set[Item]) -> set[Item]:
    """Return the set, or a smaller copy if it is nearly empty: a set never shrinks by itself."""
    room = sys.getsizeof(items)
    return set(items) if room > 2048 + 256 * len(items) else items
