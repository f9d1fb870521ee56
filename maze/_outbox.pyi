# The compiled twin has the pure one's types.
from maze.outbox import Held as Held
from maze.outbox import Outbox as Outbox
from maze.outbox import flush_all as flush_all
from maze.outbox import push_all as push_all
