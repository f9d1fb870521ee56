"""Unit tests of the core; ``tests/property`` holds it against a model besides."""
