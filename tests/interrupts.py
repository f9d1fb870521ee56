"""SIGINT in the processes that tests start."""

import signal


def let_children_be_interrupted() -> None:
    """Have children take SIGINT as usual, even if this process was told to ignore it.

    A shell without job control starts ``make test &`` with SIGINT ignored, and children
    inherit that. They do not inherit a handler: this one ignores it, too, but only here.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: None)
