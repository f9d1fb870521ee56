"""An event source: send the events read from stdin, one per line.

Usage: python examples/source.py [HOST [PORT]] < events.txt
"""

import socket
import sys


def main(host: str = "127.0.0.1", port: str = "9090") -> None:
    """Connect, send every line, and wait until the server has read them all."""
    try:
        connection = socket.create_connection((host, int(port)))
    except OSError as error:
        sys.exit(f"source: cannot connect to {host} port {port}: {error.strerror}")
    with connection:
        for line in sys.stdin.buffer:
            connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):  # acknowledgements, if the server sends any
            pass


if __name__ == "__main__":
    try:
        if sys.argv[1:] in (["-h"], ["--help"]):
            print(__doc__, end="")
        else:
            main(*sys.argv[1:])
    except (TypeError, ValueError):
        sys.exit("usage: python examples/source.py [HOST [PORT]] < events.txt")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"source: {error.strerror}")
