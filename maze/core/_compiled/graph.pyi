# The compiled version has the pure one's types.
from maze.core.graph import FollowGraph as FollowGraph
from maze.core.graph import Recipient as Recipient
