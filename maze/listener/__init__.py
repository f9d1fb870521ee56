"""Accepting connections: listening sockets, connection limits, access control and TLS."""
