"""Entry point of ``python -m simulator``."""

import signal
import sys

from simulator.cli import main

if __name__ == "__main__":
    # Treat SIGTERM as Ctrl-C, so that a server started by --serve is stopped, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
