"""The whole server over real sockets, held against the protocol."""
