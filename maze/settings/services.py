"""Recognise the environment variables that Kubernetes makes for its Services.

A pod gets them for every Service of its namespace. For a Service called ``maze-client`` they are
``MAZE_CLIENT_SERVICE_HOST``, ``MAZE_CLIENT_PORT_9090_TCP_ADDR`` and others, and
``MAZE_CLIENT_PORT=tcp://10.0.0.7:9090``, which has the name of an option's variable.
"""

import re

PORT_SUFFIX = "_PORT"
"""What the name of a variable ends with whose value is the address of a Service."""

_ADDRESS = re.compile(r"(?:tcp|udp|sctp)://\S+:[0-9]+")
_OTHER_NAME = re.compile(
    r"\w+_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT_[0-9]+_(?:TCP|UDP|SCTP)(?:_(?:PROTO|PORT|ADDR))?)"
)


def is_service_address(name: str, value: str) -> bool:
    """Return whether a variable has the address of a Service, where an option has a port."""
    return name.endswith(PORT_SUFFIX) and _ADDRESS.fullmatch(value) is not None


def is_of_service(name: str, value: str) -> bool:
    """Return whether Kubernetes has made a variable for a Service."""
    return _OTHER_NAME.fullmatch(name) is not None or is_service_address(name, value)
