"""A child process in the place of a server, which behaves as its first argument says."""

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from position_server import PositionServer, acknowledge
from servers import Server, honest

FOREVER = 60.0

ON_SIGTERM: dict[str, Any] = {
    "stubborn": signal.SIG_IGN,
    "behaves": lambda *_: os._exit(0),
    "untidy": lambda *_: os._exit(4),
}

CRASHES: dict[str, Any] = {
    "crashes": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "fails": lambda *_: os._exit(3),
    "leaves": lambda *_: os._exit(0),
}
"""what becomes of the process when it has the first delivery in hand"""


JOURNALS = ("keeps", "forgets", "falls")
"""of the servers with a journal: what becomes of it when they start again"""


def say(**record: object) -> None:
    print(json.dumps(record), file=sys.stderr, flush=True)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def keep(manner: str) -> None:
    """Serve with a journal, which another process may have begun."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--source-port", type=int, default=0)
    parser.add_argument("--client-port", type=int, default=0)
    parser.add_argument("--journal", type=Path)
    parser.add_argument("--users")
    given = parser.parse_args(sys.argv[3:])
    again = given.journal.exists()
    if again and manner == "falls":
        sys.exit(3)
    if again and manner == "forgets":
        lines = given.journal.read_bytes().splitlines(keepends=True)
        given.journal.write_bytes(b"".join(lines[: len(lines) // 2]))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    users = [int(user) for user in given.users.split(",")]
    server = PositionServer(
        users,
        acks=acknowledge,
        journal=given.journal,
        ports=(given.source_port, given.client_port),
    )
    with server:
        say(event="ready", source_port=server.source_port, client_port=server.client_port)
        time.sleep(FOREVER)


def main(manner: str, clients: int) -> None:
    print("stdout is nobody's business", flush=True)
    if manner == "dies":
        print("Traceback: something\nOSError: no", file=sys.stderr)
        sys.exit(3)
    if manner in ON_SIGTERM:
        signal.signal(signal.SIGTERM, ON_SIGTERM[manner])
    if manner == "silent":
        say(event="starting", level="info")
        time.sleep(FOREVER)
    if manner == "deaf":
        say(event="ready", source_port=closed_port(), client_port=closed_port())
        sys.exit(5)
    if manner in JOURNALS:
        keep(manner)
    with Server(clients, CRASHES.get(manner, honest)) as server:
        say(line="5|X\\n", count=2, event="odd", level="warning", timestamp="now")
        print("not JSON", file=sys.stderr)
        print("[1, 2]", file=sys.stderr)
        say(event="ready", source_port=server.source_port, client_port=server.client_port)
        time.sleep(FOREVER)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
