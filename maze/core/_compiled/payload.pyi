# The compiled version has the pure one's types.
from maze.core.payload import Payload as Payload
from maze.core.payload import Tape as Tape
