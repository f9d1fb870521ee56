"""Faults, made for real against a server process, which serves all others as if none were."""
