"""An event source and user clients of our own, to test and to measure any Follower Maze server.

The simulator knows the protocol and nothing of the server: it makes a stream from a seed, works
out which bytes every connected client must receive, plays the stream over TCP and compares every
byte. It imports nothing from `maze`. Run it with `python -m simulator --help`.
"""

from simulator.cli import main, simulate
from simulator.diagnosis import Fault
from simulator.errors import SimulatorError
from simulator.parameters import Parameters
from simulator.workload import Workload

__all__ = ["Fault", "Parameters", "SimulatorError", "Workload", "main", "simulate"]
