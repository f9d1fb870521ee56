"""The feed: an ingest serves its journal to edges, over a socket.

An edge asks, and the ingest answers (``messages``). The ingest's side is ``feed_port``, with the
batches committed last in ``ring``. The edge's side is ``reader``; what it reads goes through
``arrived`` to the router, and ``following`` keeps it going.
"""
