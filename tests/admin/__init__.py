"""Tests of the admin port and of its page."""
