"""Fixtures: a watched server, and those of the end-to-end tests."""

from admin.conftest import bounded, journaled, log, start, watched

__all__ = ["bounded", "journaled", "log", "start", "watched"]
