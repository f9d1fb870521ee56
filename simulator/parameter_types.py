"""Declare parameters, and parse their values.

A parameter is a flag, and some have an environment variable, too. This module does not know which
parameters there are. A reader takes the text of a value and returns the value. If the text is
invalid, it raises ``argparse.ArgumentTypeError`` with the reason.
"""

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from simulator.errors import ParameterError
from simulator.stream.workload import LETTERS, ORIGINAL_MIX

LOG_LEVELS = ("debug", "info", "warning", "error")


class Parser(argparse.ArgumentParser):
    """A parser that reports errors as ParameterError, and takes no abbreviated flags."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        """Raise ParameterError instead of ending the process."""
        if message == "argument --server-options: expected one argument":
            # argparse mistakes a value for a flag if it begins with dashes and has no space.
            message += "; use an equals sign: --server-options='--gap-policy=fail'"
        raise ParameterError(f"{message.removeprefix('argument ')} (see --help)")


class _Noted(argparse.Action):
    """Store the value, and note in ``flags`` that it came from the command line."""

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
    """A value from the environment that has not been parsed yet."""

    __slots__ = ()


class Declarations:
    """The parameters of one parser; each is declared by one call of ``add`` or ``switch``."""

    def __init__(self, parser: Parser, environment: Mapping[str, str]) -> None:
        self._parser = parser
        self._environment = environment

    def group(self, title: str) -> None:
        """Begin a group of parameters, with its title in --help."""
        self._group = self._parser.add_argument_group(title)

    def add(
        self,
        flag: str,
        read: Callable[[str], object],
        default: str | None,
        text: str,
        *,
        unit: str = "N",
        variable: str | None = None,
    ) -> None:
        """Declare a parameter with a value. ``text`` must explain a default of None."""
        shown = text if default is None else f"{text} (default {default})"
        if variable:
            shown += f" [{variable}]"
            value = self._environment.get(variable)
            default = _Variable(value) if value else default
            read = _naming(variable, flag, read)
        # argparse parses defaults that are text, so ``read`` checks defaults and variables, too.
        self._group.add_argument(
            flag,
            type=read,
            default=default,
            metavar=unit,
            help=shown.replace("%", "%%"),
            action=_Noted,
        )

    def switch(self, flag: str, text: str) -> None:
        """Declare a parameter without a value."""
        self._group.add_argument(flag, action="store_true", help=text)


def flags_of(given: argparse.Namespace) -> Sequence[str]:
    """Return the flags with a value that were on the command line."""
    flags: Sequence[str] = getattr(given, "flags", ())
    return flags


def _naming(variable: str, flag: str, read: Callable[[str], object]) -> Callable[[str], object]:
    """Return a reader whose error names the variable if the value came from it."""

    def read_either(text: str) -> object:
        try:
            return read(text)
        except argparse.ArgumentTypeError as error:
            if isinstance(text, _Variable):
                raise ParameterError(f"{variable}: {error} (the variable of {flag})") from None
            raise

    return read_either


def integer(text: str) -> int:
    """Parse a whole number."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number") from None


def whole(minimum: int, maximum: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers within bounds."""

    def read(text: str) -> int:
        value = integer(text)
        if value < minimum or (maximum is not None and value > maximum):
            bounds = f"at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
            raise argparse.ArgumentTypeError(f"{text} is not {bounds}")
        return value

    return read


def rate(text: str) -> float:
    """Parse a number above 0."""
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return rate


def percent(text: str) -> float:
    """Parse a percentage from 0 to 100."""
    try:
        percent = float(text)
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage from 0 to 100")
    return percent


def words(text: str) -> tuple[str, ...]:
    """Split the text into words as a shell would."""
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def mix(text: str) -> tuple[float, ...]:
    """Parse five weights, not all 0, or ``original`` for the mix of the original simulator."""
    if text == "original":
        return ORIGINAL_MIX
    try:
        weights = tuple(float(weight) for weight in text.split(","))
    except ValueError:
        weights = ()
    if len(weights) != len(LETTERS) or not all(0 <= weight < float("inf") for weight in weights):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not five weights F,U,B,P,S of 0 or more, nor `original`"
        )
    if not any(weights):
        raise argparse.ArgumentTypeError(f"{text!r} has no weight above 0")
    return weights


def level(text: str) -> str:
    """Parse one of LOG_LEVELS; ``warn`` means ``warning``."""
    level = {"warn": "warning"}.get(text.lower(), text.lower())
    if level not in LOG_LEVELS:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(LOG_LEVELS)}")
    return level


def ending(flag: str, path: str | None, *endings: str) -> None:
    """Raise ParameterError if the path has none of these endings. None is accepted."""
    if path is not None and not path.lower().endswith(endings):
        raise ParameterError(f"{flag} {path}: the file name must end in {endings[0]}")
