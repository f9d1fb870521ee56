"""Parse option values as people write them: ``10s``, ``1MiB``, ``9090``.

A parser takes the text of a value and returns the value. It raises ValueError with a message that
says what is wrong and what would be right.
"""

import os
import re
import reprlib
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Literal

from maze.net.peer import UNIX
from maze.net.redis_url import check_place, is_like_url, not_a_redis_url

Network = IPv4Network | IPv6Network

UNIX_PEERS: Literal["unix"] = "unix"
"""Stands for all peers on Unix sockets in a list of address ranges."""

PeerRange = Network | Literal["unix"]

FREE_PORT = -1
"""Value of a port option that was given as ``free``."""

ANY_NAME = ("any",)
"""Value of a name list that was given as ``any``."""

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_BYTES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMG", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMG", start=1)},
}
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", re.ASCII)
_MAX_DIGITS = 100
"""Maximum digits of a number that is parsed; with thousands, int() raises its own error."""

_short = reprlib.Repr()
_short.maxstring = 60
_quoted = _short.repr


def duration(low: str, high: str) -> Callable[[str], float]:
    """Return a parser of durations from ``low`` to ``high``; values are in seconds."""
    minimum, maximum = _seconds(low), _seconds(high)

    def parse(text: str) -> float:
        seconds = _seconds(text)
        if not minimum <= seconds <= maximum:
            raise ValueError(f"{_quoted(text)} is not between {low} and {high}")
        return seconds

    return parse


def or_none(parse: Callable[[str], float]) -> Callable[[str], float | None]:
    """Return a parser of what ``parse`` takes, or of the word ``none``."""

    def parse_or_none(text: str) -> float | None:
        if text.strip().lower() == "none":
            return None
        try:
            return parse(text)
        except ValueError as error:
            raise ValueError(f"{error}; none turns it off") from None

    return parse_or_none


def size(low: str, high: str) -> Callable[[str], int]:
    """Return a parser of amounts of memory from ``low`` to ``high``; values are in bytes."""
    minimum, maximum = _bytes(low), _bytes(high)

    def parse(text: str) -> int:
        amount = _bytes(text)
        if not minimum <= amount <= maximum:
            raise ValueError(f"{_quoted(text)} is not between {low} and {high}")
        return int(amount)

    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """Return a parser of whole numbers from ``low`` to ``high``."""

    def parse(text: str) -> int:
        digits = text.strip().replace("_", "")
        valid = digits.isascii() and digits.isdigit() and len(digits) <= _MAX_DIGITS
        if not valid or not low <= int(digits) <= high:
            raise ValueError(f"{_quoted(text)} is not a whole number from {low} to {high}")
        return int(digits)

    return parse


def choice(*words: str) -> Callable[[str], str]:
    """Return a parser of one of these words, in upper or lower case."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError(f"{_quoted(text)} is not one of {', '.join(words)}")
        return word

    return parse


def secret(minimum: int, maximum: int) -> Callable[[str], str]:
    """Return a parser of secrets: printable ASCII without spaces; ``none`` is the empty secret.

    ``minimum`` and ``maximum`` bound the number of characters. Errors do not show the secret.
    """

    def parse(text: str) -> str:
        word = text.strip()
        if word.lower() == "none":
            return ""
        plain = word.isascii() and word.isprintable() and " " not in word
        if not plain or not minimum <= len(word) <= maximum:
            raise ValueError(
                f"the value (not shown) is neither none nor {minimum} to {maximum} printable ASCII "
                "characters without spaces"
            )
        return word

    return parse


def port_or_free(text: str) -> int:
    """Parse a port number; 0 is no port, and the word ``free`` is FREE_PORT."""
    if text.strip().lower() == "free":
        return FREE_PORT
    try:
        return whole(0, 65535)(text)
    except ValueError as error:
        raise ValueError(f"{error} or the word free") from None


def host(text: str) -> str:
    """Parse a host name or address: printable text without whitespace. It is resolved when used.

    ``unix:PATH`` stands for a Unix socket.
    """
    name = text.strip()
    if not name.removeprefix(UNIX) or not _is_plain(name):
        raise ValueError(f"{_quoted(text)} is not a host name or address, or unix:PATH")
    return usable_path(name) if name.startswith(UNIX) else name


def file(text: str) -> str | None:
    """Parse a file path, which is printable and has no whitespace; ``none`` is None."""
    path = text.strip()
    if not path or not _is_plain(path):
        raise ValueError(
            f"{_quoted(text)} is neither none nor a file path without whitespace and control "
            "characters"
        )
    return None if path == "none" else usable_path(path)


def journal(text: str) -> str | None:
    """Parse the place of a journal: a file path, or the URL of a Redis server; ``none`` is None.

    Errors do not show what may be a URL, because it may have a password.
    """
    place = text.strip()
    check_place(place)
    if is_like_url(place) and not _is_plain(place):
        raise not_a_redis_url()
    return file(place)


def usable_path(path: str) -> str:
    """Return a path that system calls take: the locale may lack characters of the TOML file."""
    try:
        os.fsencode(path)
    except UnicodeEncodeError:
        return os.fsdecode(path.encode())
    return path


def journal_name(text: str) -> str:
    """Parse the name of a journal in Redis."""
    name = text.strip()
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
        raise ValueError(f"{_quoted(text)} is not a name made of letters, digits, - and _")
    return name


def ranges(text: str) -> tuple[Network, ...]:
    """Parse address ranges separated by commas; ``any`` gives no range and admits every address."""
    if text.strip().lower() == "any":
        return ()
    try:
        return tuple(ip_network(each.strip()) for each in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"{_quoted(text)} is neither any nor a list of address ranges such as "
            f"10.0.0.0/8,::1 ({error})"
        ) from None


def peer_ranges(text: str) -> tuple[PeerRange, ...]:
    """Parse address ranges separated by commas, one of which may be ``unix``; ``none`` gives none.

    The word ``unix`` is UNIX_PEERS, for the peers on Unix sockets.
    """
    if text.strip().lower() == "none":
        return ()
    words = [each.strip() for each in text.split(",")]
    try:
        return tuple(UNIX_PEERS if word == UNIX_PEERS else ip_network(word) for word in words)
    except ValueError as error:
        raise ValueError(
            f"{_quoted(text)} is neither none nor a list of address ranges such as "
            f"10.0.0.0/8,::1,unix ({error})"
        ) from None


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas; ``none`` gives no name, and ``any`` gives ANY_NAME."""
    found = tuple(each.strip() for each in text.split(","))
    if len(found) == 1 and found[0].lower() in {"none", "any"}:
        return () if found[0].lower() == "none" else ANY_NAME
    if any(not each.isprintable() or each.lower() in {"", "none", "any"} for each in found):
        raise ValueError(
            f"{_quoted(text)} is not none, any, or a list of names such as feed-1,feed-2"
        )
    return found


def _seconds(text: str) -> float:
    return _quantity(text, "time", _SECONDS, "500ms or 10s")


def _bytes(text: str) -> float:
    return _quantity(text, "size", _BYTES, "4KiB or 1MiB")


def _quantity(text: str, kind: str, units: dict[str, float] | dict[str, int], such: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise ValueError(
            f"{_quoted(text)} is not a {kind}: write a number and one of the units "
            f"{', '.join(units)}, for example {such}"
        )
    return float(match[1]) * units[match[2]]


def _is_plain(text: str) -> bool:
    """Return whether the text is printable and has no whitespace.

    Bytes that the locale's encoding lacks are characters, too: ``os.fsdecode`` has escaped them.
    """
    return all(
        "\udc80" <= character <= "\udcff" or (character.isprintable() and not character.isspace())
        for character in text
    )
