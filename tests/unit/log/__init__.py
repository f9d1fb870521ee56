"""Unit tests of ``maze.log``."""
