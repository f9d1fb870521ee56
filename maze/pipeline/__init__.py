"""The pipeline: sources, router and sessions carry events from socket to socket."""
