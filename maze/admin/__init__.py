"""The admin port: health checks, metrics, status and a live page, for operators only.

This package reads the server from outside. The server's parts keep plain integer
counters and do not depend on it. A request may take milliseconds; without requests
the cost is one tick of ``monitor`` per second.
"""

from maze.admin.listener import Admin

__all__ = ["Admin"]
