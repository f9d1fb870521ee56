"""Unit tests of ``maze.listener``."""
