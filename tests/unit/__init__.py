"""Unit tests: a module of tests for each module of ``maze``."""
