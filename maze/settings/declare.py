"""Declare options: each method of a group returns a dataclass field for one option.

The field's metadata describes the option: ``group``, ``default`` as a person would write it,
``parse``, ``help``, ``bounds``, ``value``, which stands for the value in ``--help``, and
``is_secret``.
"""

from collections.abc import Callable
from dataclasses import field
from typing import Any

from maze.settings import option_types
from maze.settings.feed_address import feed_address


class Group:
    """A titled group of options in ``--help``. Bounds are written as in ``1s to 24h``."""

    def __init__(self, title: str) -> None:
        self.title = title

    def option(
        self,
        default: str,
        parse: Callable[[str], Any],
        text: str,
        *,
        bounds: str,
        value: str,
        is_secret: bool = False,
    ) -> Any:
        """Declare an option; ``text`` is its help."""
        metadata = {"group": self, "default": default, "parse": parse, "help": text}
        metadata |= {"bounds": bounds, "value": value, "is_secret": is_secret}
        return field(default=parse(default), metadata=metadata)

    def choice(self, default: str, bounds: str, text: str) -> Any:
        """Declare an option whose value is one of a few words, as in ``wait, disconnect``."""
        words = bounds.split(", ")
        parse = option_types.choice(*words)
        return self.option(default, parse, text, bounds=bounds, value="|".join(words))

    def switch(self, default: str, text: str) -> Any:
        """Declare an option that is ``on`` or ``off``; its value is whether it is on."""
        word = option_types.choice("off", "on")
        return self.option(
            default, lambda given: word(given) == "on", text, bounds="off, on", value="off|on"
        )

    def whole(self, default: int, low: int, high: int, text: str) -> Any:
        """Declare an option whose value is a whole number."""
        parse, bounds = option_types.whole(low, high), f"{low} to {high}"
        return self.option(str(default), parse, text, bounds=bounds, value="N")

    def size(self, default: str, bounds: str, text: str) -> Any:
        """Declare an option whose value is an amount of memory or disk space."""
        parse = option_types.size(*bounds.split(" to "))
        return self.option(default, parse, text, bounds=bounds, value="SIZE")

    def duration(self, default: str, bounds: str, text: str) -> Any:
        """Declare an option whose value is a duration."""
        parse = option_types.duration(*bounds.split(" to "))
        return self.option(default, parse, text, bounds=bounds, value="TIME")

    def duration_or_none(self, default: str, bounds: str, text: str) -> Any:
        """Declare an option whose value is a duration or none."""
        parse = option_types.or_none(option_types.duration(*bounds.split(" to ")))
        return self.option(default, parse, text, bounds=f"{bounds} or none", value="TIME")

    def host(self, default: str, text: str) -> Any:
        """Declare an option whose value is a host."""
        parse, bounds = option_types.host, "host name, address or unix:PATH"
        return self.option(default, parse, text, bounds=bounds, value="HOST")

    def address(self, text: str) -> Any:
        """Declare an option whose value is the address of a feed; the default is none."""
        parse, bounds = feed_address, "none, HOST:PORT or unix:PATH"
        return self.option("none", parse, text, bounds=bounds, value="ADDRESS")

    def file(self, text: str) -> Any:
        """Declare an option whose value is a file path; the default is no file."""
        parse, bounds = option_types.file, "none or a file path"
        return self.option("none", parse, text, bounds=bounds, value="FILE")

    def token(self, text: str) -> Any:
        """Declare an option whose value is a secret; the default is none."""
        low, high = 16, 256
        return self.option(
            "none",
            option_types.secret(low, high),
            text,
            bounds=f"none, or {low} to {high} characters",
            value="TOKEN",
            is_secret=True,
        )

    def ranges(self, text: str) -> Any:
        """Declare an option whose value is a list of address ranges; the default is any address."""
        parse, bounds = option_types.ranges, "any, or address ranges separated by commas"
        return self.option("any", parse, text, bounds=bounds, value="RANGES")
