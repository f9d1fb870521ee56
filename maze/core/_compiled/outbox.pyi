# The compiled version has the pure one's types.
from maze.pipeline.outbox import Outbox as Outbox
from maze.pipeline.outbox import QueuedMemory as QueuedMemory
from maze.pipeline.outbox import flush_all as flush_all
from maze.pipeline.outbox import push_all as push_all
