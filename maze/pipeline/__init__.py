"""The path of an event around the core.

An event passes through ``source`` -> ``intake`` -> ``router`` -> ``batch`` -> ``outbox``. A
client enters through ``client_port`` and is served by ``session``.
"""
