"""The play: the event sources, the user clients and the server process, over real sockets."""
