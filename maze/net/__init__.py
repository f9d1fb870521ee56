"""Sockets: peers, connections plain or encrypted, and sharing the event loop's time."""
