"""Option values as people write them: ``10s``, ``1MiB``, ``9090``. Text in, number out.

Each function here makes a *parser*: it takes the text of a value and returns
the value, or raises ValueError with what is wrong and what would be right.
"""

import re
import reprlib
from collections.abc import Callable
from ipaddress import IPv4Network, IPv6Network, ip_network

Network = IPv4Network | IPv6Network

FREE_PORT = -1
ANY_NAME = ("any",)

_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600}
_BYTES = {
    "B": 1,
    **{f"{prefix}B": 1000**power for power, prefix in enumerate("kMG", start=1)},
    **{f"{prefix}iB": 1024**power for power, prefix in enumerate("KMG", start=1)},
}
_shortened = reprlib.Repr()
_shortened.maxstring = 60
_QUANTITY = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)", re.ASCII)


def _quantity(text: str, units: dict[str, float] | dict[str, int], example: str) -> float:
    match = _QUANTITY.fullmatch(text.strip())
    if match is None or match[2] not in units:
        raise ValueError(
            f"{_shortened.repr(text)} is not a number with one of the units "
            f"{', '.join(units)}: {example}"
        )
    return float(match[1]) * units[match[2]]


def duration(low: str, high: str) -> Callable[[str], float]:
    """A time with its unit, from ``low`` to ``high``; the value is in seconds."""

    def parse(text: str) -> float:
        seconds = _quantity(text, _SECONDS, "for example 500ms or 10s")
        if not bounds[0] <= seconds <= bounds[1]:
            raise ValueError(f"{_shortened.repr(text)} is not between {low} and {high}")
        return seconds

    bounds = [_quantity(bound, _SECONDS, "") for bound in (low, high)]
    return parse


def size(low: str, high: str) -> Callable[[str], int]:
    """An amount of memory with its unit, from ``low`` to ``high``; the value is in bytes."""

    def parse(text: str) -> int:
        amount = _quantity(text, _BYTES, "for example 4KiB or 1MiB")
        if not bounds[0] <= amount <= bounds[1]:
            raise ValueError(f"{_shortened.repr(text)} is not between {low} and {high}")
        return int(amount)

    bounds = [_quantity(bound, _BYTES, "") for bound in (low, high)]
    return parse


def whole(low: int, high: int) -> Callable[[str], int]:
    """A whole number from ``low`` to ``high``."""

    def parse(text: str) -> int:
        digits = text.strip().replace("_", "")
        # int() itself refuses thousands of digits, in words of its own.
        valid = digits.isascii() and digits.isdigit() and len(digits) <= 100
        if not valid or not low <= int(digits) <= high:
            raise ValueError(f"{_shortened.repr(text)} is not a whole number from {low} to {high}")
        return int(digits)

    return parse


def choice(*words: str) -> Callable[[str], str]:
    """One of a few words, whatever its case."""

    def parse(text: str) -> str:
        word = text.strip().lower()
        if word not in words:
            raise ValueError(f"{_shortened.repr(text)} is none of {', '.join(words)}")
        return word

    return parse


def secret(least: int, most: int) -> Callable[[str], str]:
    """Printable ASCII without blanks, of so many characters, or ``none``: then it is empty.

    What is wrong with a secret is said without the secret.
    """

    def parse(text: str) -> str:
        word = text.strip()
        if word.lower() == "none":
            return ""
        plain = word.isascii() and word.isprintable() and " " not in word
        if not plain or not least <= len(word) <= most:
            raise ValueError(
                f"the value (not shown) is no secret: {least} to {most} printable ASCII "
                "characters without blanks, or none"
            )
        return word

    return parse


def port_or_free(text: str) -> int:
    """A port, 0 for none at all, or the word ``free`` for any that is free: then it is -1."""
    if text.strip().lower() == "free":
        return FREE_PORT
    try:
        return whole(0, 65535)(text)
    except ValueError as error:
        raise ValueError(f"{error}, or free") from None


def host(text: str) -> str:
    """A host name or address: anything without blanks; looked up when it is used."""
    name = text.strip()
    if not name or any(character.isspace() for character in name):
        raise ValueError(f"{_shortened.repr(text)} is not a host name or an address")
    return name


def file(text: str) -> str | None:
    """The path of a file, without blanks; ``none`` is no file."""
    path = text.strip()
    if not path or any(character.isspace() for character in path):
        raise ValueError(f"{_shortened.repr(text)} is not the path of a file (without blanks)")
    return None if path == "none" else path


def ranges(text: str) -> tuple[Network, ...]:
    """Ranges of addresses, with commas between them; ``any`` is every address, no range."""
    if text.strip().lower() == "any":
        return ()
    try:
        return tuple(ip_network(each.strip()) for each in text.split(","))
    except ValueError as error:
        raise ValueError(
            f"{_shortened.repr(text)} is not any, nor address ranges such as "
            f"10.0.0.0/8,::1 ({error})"
        ) from None


def names(text: str) -> tuple[str, ...]:
    """Parse names separated by commas; ``none`` is no name, ``any`` is ``ANY_NAME``."""
    found = tuple(each.strip() for each in text.split(","))
    if len(found) == 1 and found[0].lower() in {"none", "any"}:
        return () if found[0].lower() == "none" else ANY_NAME
    if any(not each.isprintable() or each.lower() in {"", "none", "any"} for each in found):
        raise ValueError(
            f"{_shortened.repr(text)} is not none, any, or names such as feed-1,feed-2"
        )
    return found
