"""The path of an event around the core.

An event passes through ``source`` -> ``ordering`` -> ``batch`` -> ``router`` -> ``outbox``. A
client enters through ``client_port`` and is served by ``session``.
"""
