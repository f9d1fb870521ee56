# The compiled twin has the pure one's types.
from maze.outbox import Held as Held
from maze.outbox import Outbox as Outbox
