"""Unit tests of ``maze.settings``."""
