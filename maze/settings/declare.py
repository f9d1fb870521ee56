"""Declare options: each function here returns a dataclass field for one option.

The field's metadata describes the option: ``group``, ``default`` as a person would write it,
``parse``, ``help``, ``bounds``, and ``value``, which stands for the value in ``--help``.
"""

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import Any

from maze.settings import option_types


def option(
    group: str, default: str, parse: Callable[[str], Any], text: str, *, bounds: str, value: str
) -> Any:
    """Declare an option; ``text`` is its help."""
    metadata = {"group": group, "default": default, "parse": parse, "help": text}
    return field(default=parse(default), metadata=metadata | {"bounds": bounds, "value": value})


def choice(group: str, default: str, words: Sequence[str], text: str) -> Any:
    """Declare an option whose value is one of a few words."""
    parse = option_types.choice(*words)
    return option(group, default, parse, text, bounds=", ".join(words), value="|".join(words))


def whole(group: str, default: int, low: int, high: int, text: str) -> Any:
    """Declare an option whose value is a whole number."""
    parse = option_types.whole(low, high)
    return option(group, str(default), parse, text, bounds=f"{low} to {high}", value="N")


def size(group: str, default: str, low: str, high: str, text: str) -> Any:
    """Declare an option whose value is an amount of memory or disk space."""
    parse = option_types.size(low, high)
    return option(group, default, parse, text, bounds=f"{low} to {high}", value="SIZE")


def duration(group: str, default: str, low: str, high: str, text: str) -> Any:
    """Declare an option whose value is a duration."""
    parse = option_types.duration(low, high)
    return option(group, default, parse, text, bounds=f"{low} to {high}", value="TIME")


def host(group: str, default: str, text: str) -> Any:
    """Declare an option whose value is a host."""
    return option(
        group, default, option_types.host, text, bounds="host name or address", value="HOST"
    )


def file(group: str, text: str) -> Any:
    """Declare an option whose value is a file path; the default is no file."""
    return option(
        group, "none", option_types.file, text, bounds="none or a file path", value="FILE"
    )


def ranges(group: str, text: str) -> Any:
    """Declare an option whose value is a list of address ranges; the default is every address."""
    return option(
        group,
        "any",
        option_types.ranges,
        text,
        bounds="any, or address ranges separated by commas",
        value="RANGES",
    )
