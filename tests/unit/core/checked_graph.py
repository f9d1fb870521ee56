"""A follow graph that checks its invariants."""

from maze.core import FollowGraph, Recipient
from maze.core.graph import DetachedGraph


class Graph(FollowGraph):
    """A follow graph that checks its invariants after every step."""

    def follow(self, follower: int, followed: int) -> int:
        holds = super().follow(follower, followed)
        self._check()
        return holds

    def unfollow(self, follower: int, followed: int) -> bool:
        did_follow = super().unfollow(follower, followed)
        self._check()
        return did_follow

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
