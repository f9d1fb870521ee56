"""Entry point of ``python -m simulator``."""

import signal
import sys

from simulator.cli import main

if __name__ == "__main__":
    # Handle SIGTERM as Ctrl-C, so that a server that was started is stopped, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
