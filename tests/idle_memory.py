"""How much memory an idle connected client costs: ``python tests/idle_memory.py [CLIENTS]``.

Starts a server of its own, connects the clients, waits until all have sessions, and divides
what the server's resident memory grew by. The default is 10,000 clients; each needs a file
descriptor here and one in the server.
"""

import argparse
import json
import os
import resource
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
SPARE_FILES = 80
WARMING = 100
"""clients that connect before memory is measured: the first ones pay for what all share"""


class Server:
    """A running server, by its log at level debug."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._await("ready")["client_port"])

    def connect(self, stack: ExitStack, users: range) -> None:
        """Connect a client for each user, and wait until all have sessions."""
        for user in users:
            client = stack.enter_context(socket.create_connection(("127.0.0.1", self.port), 10))
            client.sendall(b"%d\n" % user)
            self._await("session_opened")

    def resident_bytes(self) -> int:
        """Resident memory now."""
        pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def _await(self, event: str) -> dict[str, str]:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            record: dict[str, str] = json.loads(line)
            if record["event"] == event:
                return record
            if record["level"] == "warning":
                raise SystemExit(f"the server warned: {line}")
        raise SystemExit(f"the server ended before it logged {event}")


@contextmanager
def running_server(clients: int) -> Iterator[Server]:
    """A server on free ports for so many clients; it is stopped at the end."""
    command = [sys.executable, "-m", "maze.serve", "--log-level", "debug", "--log-format", "json"]
    command += ["--source-port", "0", "--client-port", "0", "--drain-timeout", "0s"]
    command += ["--admin-port", "0", "--max-clients", str(clients)]
    command += ["--max-clients-per-address", str(clients)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def bytes_per_client(clients: int) -> float:
    """Resident bytes that each of so many idle clients adds."""
    with running_server(WARMING + clients) as server, ExitStack() as stack:
        server.connect(stack, range(WARMING))
        before = server.resident_bytes()
        server.connect(stack, range(WARMING, WARMING + clients))
        return (server.resident_bytes() - before) / clients


def main() -> None:
    """Print the figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition(":")[0])
    parser.add_argument("clients", nargs="?", type=int, default=10_000)
    clients = parser.parse_args().clients
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard != resource.RLIM_INFINITY and clients + WARMING + SPARE_FILES > hard:
        raise SystemExit(f"{clients} clients need more open files than this machine allows, {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(f"{clients:,} idle clients: {bytes_per_client(clients) / 1024:.1f} KiB each")


if __name__ == "__main__":
    main()
