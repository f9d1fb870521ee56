"""Real faults against a server process; every peer that did nothing wrong must still be served."""
