"""An event source and user clients that test and measure any Follower Maze server.

The simulator knows the protocol and nothing of the server, so it imports nothing from ``maze``. It
makes a stream from a seed, works out which bytes every connected client must receive, plays the
stream over TCP and compares every byte. Run it with ``python -m simulator --help``.

Its packages, each of which imports only from those before it:
- ``stream``: what is sent, and what each client must receive
- ``play``: the event sources, the clients and the server process
- ``verdict``: the comparison of what clients received with what they must receive
- ``report``: how a result is shown
- ``bench``: the named workloads and their medians
"""

__version__ = "0.1.0"
