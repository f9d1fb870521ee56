"""Unit tests of ``maze.net``."""
