# The compiled version has the pure one's types.
from maze.core.events import Decoder as Decoder
from maze.core.events import Run as Run
from maze.core.events import lines_of as lines_of
