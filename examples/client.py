"""A user client: print a user's events until the server closes the connection.

Usage: python examples/client.py USER [HOST [PORT]]

If USER ends with a bar (``'50|'``), the server also sends positions: ``=|epoch-next``. To come back
and miss nothing, append the last position (``'50|epoch-next'``); if events followed it, ``next`` is
one more than the number of the last one. If events may have been missed, the first line begins with
``!``.

The server closes the connection of a client whose id it rejects; its log says why.
"""

import socket
import sys


def main(user: str, host: str = "127.0.0.1", port: str = "9099") -> None:
    """Connect, send the user id, and print every line received."""
    try:
        connection = socket.create_connection((host, int(port)))
    except OSError as error:
        sys.exit(f"client: cannot connect to {host} port {port}: {error.strerror}")
    with connection:
        connection.sendall(f"{user}\n".encode())
        for line in connection.makefile("rb"):
            sys.stdout.buffer.write(line)
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    try:
        if sys.argv[1:] in (["-h"], ["--help"]):
            print(__doc__, end="")
        else:
            main(*sys.argv[1:])
    except (TypeError, ValueError):
        sys.exit("usage: python examples/client.py USER [HOST [PORT]]")
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        sys.exit(f"client: {error.strerror}")
