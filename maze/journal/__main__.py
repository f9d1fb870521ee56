"""The command line for a journal; see ``python -m maze.journal --help``."""

import signal

if __name__ == "__main__":  # now, so that SIGINT during the imports below prints no traceback
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_DFL)

import argparse
import os
import sys
from collections.abc import Sequence

try:
    from maze.journal import inspecting, maintaining
except ModuleNotFoundError as missing:
    sys.exit(
        f"maze.journal: {missing.name} is not installed for {sys.executable}: use "
        ".venv/bin/python, which `make .venv` creates, or run `pip install -r requirements.txt`"
    )
from maze.core import parse_number
from maze.journal.journal import JournalError
from maze.journal.places import FilePlace, Place, RedisPlace, place_of
from maze.net.redis_url import check_place, is_redis_url

EXAMPLES = """\
examples:
  python -m maze.journal info /var/lib/maze/journal
  python -m maze.journal check /var/lib/maze/journal
  python -m maze.journal dump /var/lib/maze/journal --from 1000 | head
  python -m maze.journal import-follows /var/lib/maze/journal follows.csv
  python -m maze.journal check rediss://maze@redis.example --ca ca.pem
  python -m maze.journal copy /var/lib/maze/journal redis://redis.example

The journal may also come first: python -m maze.journal JOURNAL info

A journal in Redis is redis://[[user]:password@]host[:port][/database], rediss://... (with TLS) or
unix:///path. Better than with the URL, give a password in the variable MAZE_JOURNAL_PASSWORD: other
users of the machine can see a command line.
"""

PASSWORD = "MAZE_JOURNAL_PASSWORD"
"""Variable with the password for Redis."""

READING = ("info", "check", "dump")
"""Commands that only read; they know journals in Redis, too."""

COPY = "copy"
"""The command that reads a file and writes to Redis."""

INTERRUPTED = 130
"""Exit status after Ctrl-C."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return the exit status: 1 if it failed or found faults.

    Wrong usage raises SystemExit with status 2.
    """
    parser, commands = _parser()
    given = list(sys.argv[1:] if arguments is None else arguments)
    if len(given) > 1 and given[0] not in commands and given[1] in commands:
        given[:2] = given[1], given[0]
    try:
        parsed = parser.parse_args(given)
        try:
            place = _place(parsed)
        except ValueError as error:
            parser.error(str(error))
        status = _run(parsed, place)
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read the output has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except JournalError as error:
        print(f"maze.journal: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        print(f"maze.journal: {name}{error.strerror}", file=sys.stderr)
        return 1
    except ModuleNotFoundError as missing:  # redis-py is imported when it is needed
        print(
            f"maze.journal: {missing.name} is not installed for {sys.executable}: "
            "run `pip install redis hiredis`",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _place(given: argparse.Namespace) -> Place:
    """Return the place of the journal, or of its copy. Raise ValueError if it is the wrong URL."""
    if given.command not in READING and is_redis_url(given.file):
        raise JournalError(f"{given.command} is for a journal in a file, not in Redis")
    check_place(given.file)
    if given.command == COPY:
        place = _place_of(given.url, given)
        if not isinstance(place, RedisPlace):
            raise ValueError(
                "the second argument (not shown) is not the URL of a Redis server (to copy a file, "
                "use cp)"
            )
        return place
    return _place_of(given.file, given) if given.command in READING else FilePlace(given.file)


def _place_of(text: str, given: argparse.Namespace) -> Place:
    files = {"ca": given.ca, "certificate": given.certificate, "key": given.key}
    password = os.environ.get(PASSWORD)
    return place_of(text, given.name, sentinels=given.sentinels, password=password, **files)


def _run(given: argparse.Namespace, place: Place) -> int:
    out = sys.stdout.buffer
    match given.command:
        case "info":
            print(inspecting.info(place), end="")
        case "check":
            return 1 if inspecting.check(place, out) else 0
        case "dump":
            inspecting.dump(place, given.first, out)
        case "import-follows":
            print(maintaining.import_follows(given.file, given.csv, given.first_sequence), end="")
        case "compact":
            print(maintaining.compact(given.file), end="")
        case "reset":
            print(maintaining.reset(given.file, given.first_sequence), end="")
        case "copy":
            from maze.journal.copying import copy  # noqa: PLC0415, redis-py loads slowly

            assert isinstance(place, RedisPlace)
            print(copy(given.file, place, _warn), end="")
    return 0


def _warn(text: str) -> None:
    print(f"maze.journal: {text}", file=sys.stderr)


def _parser() -> tuple[argparse.ArgumentParser, list[str]]:
    """Return the parser and the names of the commands."""
    parser = argparse.ArgumentParser(
        prog="python -m maze.journal",
        description="Inspect a journal, or change a journal's file. info, check and dump work "
        "beside a running server; the others are refused while a server has the file open.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        is_read = name in READING
        command.add_argument(
            "file",
            metavar="JOURNAL" if is_read else "FILE",
            help="the journal's file, or the URL of a Redis server"
            if is_read
            else "the journal's file",
        )
        if is_read:
            _add_redis_options(command)
        return command

    add("info", "show format, positions, sizes and snapshots")
    add("check", "check that no batch is missing and that all checksums are right")
    dump = add("dump", "write the lines of the present epoch, byte for byte")
    dump.add_argument(
        "--from", dest="first", metavar="N", type=_number, help="first sequence number to write"
    )
    follows = add("import-follows", "begin a journal with the follows of a CSV file")
    follows.add_argument("csv", metavar="CSV", help='a file of lines "follower,followed"')
    add("compact", "give the disk space of removed batches back to the file system")
    reset = add("reset", "begin a new epoch: forget the sequence and the follow graph")
    copy = add(COPY, "copy a journal from a file to Redis, so that a server can continue there")
    copy.add_argument("url", metavar="URL", help="the URL of a Redis server")
    _add_redis_options(copy)
    for command in (follows, reset):
        command.add_argument(
            "--first-sequence",
            metavar="N",
            type=_number,
            default=1,
            help="first sequence number of the epoch (default: 1); use the server's first-sequence",
        )
    return parser, list(commands.choices)


def _add_redis_options(command: argparse.ArgumentParser) -> None:
    group = command.add_argument_group("only for a journal in Redis")
    for option, metavar, default, text in (
        ("--name", "NAME", "maze", "name of the journal (default: maze)"),
        ("--sentinels", "HOST[:PORT],...", "", "ask these for the master that the URL names"),
        ("--ca", "FILE", None, "certificates that sign the server's (default: the system's)"),
        ("--certificate", "FILE", None, "certificate of this client"),
        ("--key", "FILE", None, "key of the certificate"),
    ):
        group.add_argument(option, metavar=metavar, default=default, help=text)


def _number(text: str) -> int:
    number = parse_number(text.encode())
    if number is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a sequence number")
    return number


if __name__ == "__main__":
    signal.signal(signal.SIGINT, on_interrupt)
    sys.exit(main())
