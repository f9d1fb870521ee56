"""A child process in the place of a server, which behaves as its first argument says."""

import json
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from servers import Server

FOREVER = 60.0


def say(**record: object) -> None:
    print(json.dumps(record), file=sys.stderr, flush=True)


def main(manner: str, clients: int) -> None:
    print("stdout is nobody's business", flush=True)
    if manner == "dies":
        print("Traceback: something\nOSError: no", file=sys.stderr)
        sys.exit(3)
    if manner == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if manner == "silent":
        say(event="starting", level="info")
        time.sleep(FOREVER)
    with Server(clients) as server:
        say(line="5|X\\n", count=2, event="odd", level="warning", timestamp="now")
        print("not JSON", file=sys.stderr)
        print("[1, 2]", file=sys.stderr)
        say(event="ready", source_port=server.source_port, client_port=server.client_port)
        time.sleep(FOREVER)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
