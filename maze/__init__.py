"""Follower Maze: one out-of-order event stream in, to every user exactly their events out."""

__version__ = "0.1.0"
