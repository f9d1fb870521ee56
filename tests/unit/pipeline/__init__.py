"""Unit tests of ``maze.pipeline``."""
