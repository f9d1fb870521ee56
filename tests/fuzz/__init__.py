"""Fuzzing: bytes nobody thought of, for whatever takes bytes from outside."""
