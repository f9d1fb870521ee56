"""Fixtures: a watched server, and those of the end-to-end tests."""

from admin.conftest import (
    bounded,
    encrypted,
    feed,
    journaled,
    kinds,
    log,
    redis,
    redis_journaled,
    roles,
    start,
    watch,
    watched,
)

__all__ = [
    "bounded",
    "encrypted",
    "feed",
    "journaled",
    "kinds",
    "log",
    "redis",
    "redis_journaled",
    "roles",
    "start",
    "watch",
    "watched",
]
