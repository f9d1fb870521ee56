"""Entry point of ``python -m simulator``."""

import signal

if __name__ == "__main__":  # now, so that SIGINT during the imports below prints no traceback
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)

import sys

from simulator.cli import main

if __name__ == "__main__":
    signal.signal(signal.SIGINT, on_interrupt)
    # Treat SIGTERM as Ctrl-C, so that a server started by --serve is stopped, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    sys.exit(main())
