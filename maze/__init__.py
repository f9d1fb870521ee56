"""Follower Maze: one out-of-order event stream in; each user's own events out, in order."""

__version__ = "0.1.0"
