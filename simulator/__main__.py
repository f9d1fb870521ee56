"""`python -m simulator`: the command line."""

import signal
import sys

from simulator.cli import main

if __name__ == "__main__":
    # A run that is told to end stops the server that it started, as with Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
