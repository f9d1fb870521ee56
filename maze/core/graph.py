"""Knows who follows whom, and which of the followers are connected.

Two indexes, not one:

  - ``following[user]`` holds for **all** users whom they follow, so that the
    graph is right whoever is online;
  - ``audience[user]`` holds the connected followers of a user only, so that a
    status update touches nobody else (measured on ten million events: 9 s
    with this index, 46 s without).

An audience holds users, each with all its sessions. So all audiences together
never hold more entries than there are follows, and a second session of a user
costs nothing. The graph is bounded: a follow beyond a bound is refused and
changes nothing. What is refused depends on the stream alone, never on who is
connected.

With its first session a user enters the audiences of all users it follows;
after its last it leaves them. If there are many, ``settle`` does this in steps,
so that it holds up nobody. The users that a user follows are therefore kept in
two sets: those whose audiences it has joined (``Member.joined``), and the
others. A status update goes to the members of the sender's audience who have
sessions, and to the followers who have yet to enter it.
"""

import sys
from collections.abc import Collection
from functools import partial
from typing import TypeVar

AT_ONCE = 100
"""Audiences that a user enters or leaves at once when it connects or disconnects (about 0.1 ms; a
turn of the event loop may see fifty users). The rest is left to ``settle``."""

Item = TypeVar("Item")


class Recipient:
    """A session as the core knows it: one connected client of a user."""

    __slots__ = ("user",)

    def __init__(self, user: int) -> None:
        self.user = user


class Member:
    """A user in audiences: connected, or disconnected and yet to leave them.

    All its sessions get the same bytes from a batch.
    """

    __slots__ = ("joined", "sessions", "user")

    def __init__(self, user: int) -> None:
        self.user = user
        self.sessions: dict[Recipient, None] = {}
        self.joined: set[int] = set()
        """the users it follows whose audiences it is in"""


class DetachedGraph:
    """What a graph has forgotten. To free that of a million users takes half a second."""

    def __init__(self, *parts: dict[int, set[int]] | dict[int, set[Member]] | dict[int, Member]):
        self._parts = parts

    def free(self) -> None:
        """Free it; in a thread other threads run meanwhile."""
        for part in self._parts:
            while part:
                part.popitem()


class FollowGraph:
    """The follow graph of all users, and the recipients of those who are connected.

    ``max_users`` bounds the users who follow anybody, ``max_follows`` the
    follows of all of them together, ``max_follows_per_user`` those of each.
    ``at_once`` is how many audiences are entered or left without ``settle``.
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
        """number of users who follow anybody"""
        self.follows = 0
        """how many there are, of all users together"""
        self.listeners = 0
        """pairs of a connected user and a user they follow"""
        self._following: dict[int, set[int]] = {}  # without those in a member's ``joined``
        self._audience: dict[int, set[Member]] = {}
        self._members: dict[int, Member] = {}
        self._entering: dict[Member, None] = {}
        self._leaving: dict[Member, None] = {}
        self.recipients: dict[Recipient, None] = {}
        """every connected recipient, in the order of connecting"""

    @property
    def entering(self) -> int:
        """How many users have not entered all their audiences yet."""
        return len(self._entering)

    def follow(self, follower: int, followed: int) -> bool:
        """From here on ``follower`` follows ``followed``; idempotent, O(1).

        False if the graph has no room for it.
        """
        member = self._members.get(follower)
        apart = self._following.get(follower, ())
        joined = member.joined if member is not None else ()
        if followed in apart or followed in joined:
            return True
        count = len(apart) + len(joined)
        if self.follows >= self._max_follows or count >= self._max_per_user:
            return False
        if not count and self.users >= self._max_users:
            return False
        self.users += not count
        self.follows += 1
        if member is not None and member.sessions:
            self.listeners += 1
            self._join_audience(member, followed)
        else:
            self._following.setdefault(follower, set()).add(followed)
        return True

    def unfollow(self, follower: int, followed: int) -> None:
        """Undo any number of follows; nothing happens if there were none."""
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
            return
        self.follows -= 1
        self.users -= not (apart or joined)
        self.listeners -= member is not None and bool(member.sessions)

    def connect(self, recipient: Recipient) -> None:
        """Add a recipient. With a first one, its user enters audiences."""
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
        """Remove a connected recipient. With the last one, its user leaves audiences."""
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

        Return whether any are left. This does not change what any session gets.
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
        """The recipients of everyone connected who follows the user."""
        return [recipient for member in self.followers(user)[0] for recipient in member.sessions]

    def member(self, user: int) -> Collection[Member]:
        """Return the user's member if the user is connected, else nothing."""
        member = self._members.get(user)
        return (member,) if member is not None and member.sessions else ()

    def followers(self, user: int) -> tuple[Collection[Member], int]:
        """Return the connected followers of the user, and how many more users were asked.

        Asked are those still entering, and those in the audience who are about to leave it.
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
        """Whom the user follows."""
        member = self._members.get(user)
        return frozenset(self._following.get(user, ())).union(member.joined if member else ())

    def clear(self) -> DetachedGraph:
        """Forget who follows whom; recipients stay connected. O(recipients).

        What was known is to be freed by the caller.
        """
        detached = DetachedGraph(self._following, self._audience, self._members)
        self._following, self._audience, self._members = {}, {}, {}
        self._entering, self._leaving = {}, {}
        self.users = self.follows = self.listeners = 0
        for recipient in self.recipients:
            user = recipient.user
            self._members.setdefault(user, Member(user)).sessions[recipient] = None
        return detached

    def _enter(self, member: Member, limit: int) -> tuple[int, bool]:
        """Enter audiences; return what is left of the limit, and whether any audiences are left."""
        apart = self._following.get(member.user, set())
        while apart and limit:
            self._join_audience(member, apart.pop())
            limit -= 1
        self._keep_apart(member.user, apart)
        return limit, bool(apart)

    def _leave(self, member: Member, limit: int) -> tuple[int, bool]:
        """Leave audiences; return what is left of the limit, and whether any audiences are left."""
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
        """Keep the users that the user follows without being in their audiences."""
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
        """The ids of everybody of whom anything is known; for the tests."""
        return list(self._following.keys() | self._audience.keys() | self._members.keys())

    def _check(self) -> None:
        """State what must be true at all times; for the tests."""
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
        assert self.users == sum(map(bool, following)) <= self._max_users
        assert self.follows == sum(map(len, following)) <= self._max_follows
        online = {recipient.user for recipient in self.recipients}
        assert self.listeners == sum(len(self.following(user)) for user in online)


def _compact(items: set[Item]) -> set[Item]:
    """The set, or a smaller copy once it is nearly empty: a set keeps the room it ever had."""
    room = sys.getsizeof(items)
    return set(items) if room > 2048 + 256 * len(items) else items
