"""Peers, sockets and connections, and time slices of the event loop."""
