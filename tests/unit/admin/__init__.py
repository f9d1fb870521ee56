"""Unit tests of ``maze.admin``."""
