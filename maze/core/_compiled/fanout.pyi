# The compiled version has the pure one's types.
from maze.core.fanout import Fanout as Fanout
