"""Faults, made for real against a server process: who did no wrong is served on."""
