"""What each option was given as, and where: the text that ``--check-config`` prints."""

import re
from collections.abc import Mapping
from dataclasses import fields
from typing import NamedTuple

from maze.settings.options import Settings, flag_of

SECRET = "(set)"
"""What stands for a secret."""

_PASSWORD = re.compile(r"(?<=://)([^:/?#]*):[^/?#]*@")
"""User and password in a URL; a password may have ``@``, but / ? # only escaped."""


class Given(NamedTuple):
    """The text of an option's value, and where it comes from."""

    text: str
    origin: str


def describe(given: Mapping[str, Given]) -> str:
    """Return a line for each option: flag, value and origin. Secrets are not shown.

    ``given`` has all options, by field name.
    """
    rows = [
        (flag_of(spec.name), shown(given[spec.name].text, is_secret=spec.metadata["is_secret"]))
        for spec in fields(Settings)
    ]
    flags, values = (max(map(len, column)) for column in zip(*rows, strict=True))
    origins = (_printable(given[spec.name].origin) for spec in fields(Settings))
    return "".join(
        f"{flag:{flags}}  {value:{values}}  {origin}\n"
        for (flag, value), origin in zip(rows, origins, strict=True)
    )


def shown(text: str, *, is_secret: bool) -> str:
    """Return the text of a value without secrets; what is not printable is escaped."""
    text = text.strip()
    if is_secret:
        return text if text.lower() == "none" else SECRET
    return _printable(_PASSWORD.sub(rf"\1:{SECRET}@", text))


def _printable(text: str) -> str:
    """Return the text in one line that a terminal shows as it is."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
