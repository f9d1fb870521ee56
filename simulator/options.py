"""Owns how a parameter is declared and read: a flag, perhaps a variable, a unit, bounds, one error.

Must never know which parameters there are. The values are read by functions of the text that raise
`argparse.ArgumentTypeError` with the reason.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import NoReturn

from simulator.errors import ParameterError
from simulator.stream.workload import LETTERS, ORIGINAL_MIX

LOG_LEVELS = ("debug", "info", "warning", "error")


class Parser(argparse.ArgumentParser):
    """Gives its errors as ParameterError."""

    def error(self, message: str) -> NoReturn:
        """Raises ParameterError instead of ending the process."""
        if message == "argument --server-options: expected one argument":
            # A value that begins with dashes and has no blank in it looks like a flag.
            message += ", as in --server-options='--gap-policy=fail', with the equals sign"
        raise ParameterError(f"{message.removeprefix('argument ')} (see --help)")


class _Noted(argparse.Action):
    """Stores the value, and in `flags` that it came from the command line."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: object,
        option_string: str | None = None,
    ) -> None:
        setattr(namespace, self.dest, values)
        namespace.flags = [*getattr(namespace, "flags", ()), self.option_strings[0]]


class _Variable(str):
    """A value from the environment, until argparse has it read."""

    __slots__ = ()


class Declarations:
    """One call of `add` declares one parameter completely."""

    def __init__(self, parser: Parser, environment: Mapping[str, str]) -> None:
        self._parser = parser
        self._environment = environment

    def group(self, title: str) -> None:
        """The parameters that follow are shown under this title."""
        self._group = self._parser.add_argument_group(title)

    def add(
        self,
        flag: str,
        variable: str | None,
        read: Callable[[str], object],
        default: str | None,
        text: str,
        *,
        unit: str = "N",
    ) -> None:
        """A parameter with a value; a default of None is explained by `text`."""
        shown = text if default is None else f"{text} (default {default})"
        if variable:
            shown += f" [{variable}]"
            value = self._environment.get(variable)
            default = _Variable(value) if value else default
            read = _naming(variable, flag, read)
        # argparse reads a default that is text as if it had been given: `read` checks all three.
        self._group.add_argument(
            flag,
            type=read,
            default=default,
            metavar=unit,
            help=shown.replace("%", "%%"),
            action=_Noted,
        )

    def switch(self, flag: str, text: str) -> None:
        """A parameter that is either given or not."""
        self._group.add_argument(flag, action="store_true", help=text)


def flags_of(given: argparse.Namespace) -> Sequence[str]:
    """Those with a value that were on the command line; neither defaults nor variables."""
    flags: Sequence[str] = getattr(given, "flags", ())
    return flags


def _naming(variable: str, flag: str, read: Callable[[str], object]) -> Callable[[str], object]:
    """Reads the same; if a value of the variable makes no sense, the variable is named for it."""

    def read_either(text: str) -> object:
        try:
            return read(text)
        except argparse.ArgumentTypeError as error:
            if isinstance(text, _Variable):
                raise ParameterError(f"{variable}: {error} (the variable of {flag})") from None
            raise

    return read_either


def integer(text: str) -> int:
    """A whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def whole(least: int, most: int | None = None) -> Callable[[str], int]:
    """A reader of whole numbers within bounds."""

    def read(text: str) -> int:
        value = integer(text)
        if value < least or (most is not None and value > most):
            bounds = f"at least {least}" if most is None else f"from {least} to {most}"
            raise argparse.ArgumentTypeError(f"{text} is not {bounds}")
        return value

    return read


def rate(text: str) -> float:
    """A number above 0."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate


def percent(text: str) -> float:
    """A number from 0 to 100."""
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return percent


def words(text: str) -> tuple[str, ...]:
    """Words as a shell would split them."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def mix(text: str) -> tuple[float, ...]:
    """Parse a weight for each kind of event, not all 0; `original` stands for the recorded mix."""
    if text == "original":
        return ORIGINAL_MIX
    try:
        weights = tuple(float(weight) for weight in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != len(LETTERS) or not all(0 <= weight < float("inf") for weight in weights):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not five weights F,U,B,P,S, each 0 or more, nor `original`"
        )
    if not any(weights):
        raise argparse.ArgumentTypeError(f"{text!r} leaves no event to send")
    return weights


def level(text: str) -> str:
    """One of LOG_LEVELS."""
    level = {"warn": "warning"}.get(text.lower(), text.lower())
    if level not in LOG_LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(LOG_LEVELS)}")
    return level


def ending(flag: str, path: str | None, *endings: str) -> None:
    """Raises ParameterError for a path that ends as none of those, if there is a path."""
    if path is not None and not path.lower().endswith(endings):
        raise ParameterError(f"{flag} {path}: what it writes has to end in {endings[0]}")
