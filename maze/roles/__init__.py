"""Roles: one ingest takes what the sources send, and any number of edges serve the clients."""
