# The compiled version has the pure one's types.
from maze.core.marks import mark_unchanged as mark_unchanged
from maze.core.marks import unchanged_numbers as unchanged_numbers
from maze.core.recent import Recent as Recent
from maze.core.replay import Replay as Replay
from maze.core.replay import UserWalk as UserWalk
