"""Unit tests of ``maze.process``."""
