"""What a client accepts: the ``Accept`` and ``Accept-Encoding`` headers; RFC 9110, 12.5."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

OPENMETRICS = "application/openmetrics-text"
TEXT = ("text/plain", "text/*", "*/*")


class _Choice(NamedTuple):
    """One member of such a header: what the client accepts, and how much, from 0 to 1."""

    name: str
    version: str | None
    quality: float


def accepts_gzip(accept_encoding: str) -> bool:
    """Return whether the client accepts a response compressed with gzip."""
    return any(choice.name == "gzip" and choice.quality > 0 for choice in _choices(accept_encoding))


def prefers_openmetrics(accept: str) -> bool:
    """Return whether the client asks for OpenMetrics 1.0 by name, at least as much as for text."""
    openmetrics = text = 0.0
    for choice in _choices(accept):
        if choice.name == OPENMETRICS and choice.version in (None, "1.0.0"):
            openmetrics = max(openmetrics, choice.quality)
        elif choice.name in TEXT:
            text = max(text, choice.quality)
    return openmetrics > 0 and openmetrics >= text


def _choices(header: str) -> Iterator[_Choice]:
    """Yield the members of a header. One without a number as its ``q`` is not accepted."""
    for member in header.lower().split(","):
        name, *parameters = (part.strip() for part in member.split(";"))
        values = {
            key.strip(): value.strip(' "')
            for key, _, value in (parameter.partition("=") for parameter in parameters)
        }
        quality = 0.0
        with suppress(ValueError):
            quality = float(values.get("q", "1"))
        yield _Choice(name, values.get("version"), quality)
