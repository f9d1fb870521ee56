"""The admin port: health, metrics, a status and a live page, for operators only.

Everything here reads the server from outside: the parts of the server count in
plain integers and know nothing of this package. What is asked for rarely may
cost something here; what nobody asks for costs one tick of ``monitor`` a second.
"""

from maze.admin.listener import Admin

__all__ = ["Admin"]
