"""Read the TOML file: flat, in UTF-8, with the flags without their dashes as keys.

The module has no list of the options; its caller passes their keys.
"""

import tomllib
from collections.abc import Collection
from typing import IO, NoReturn

import configargparse

from maze.settings.suggestion import suggestion

ENCODING = "utf-8"
"""Encoding of the file, whatever the locale."""

_BYTE_ORDER_MARK = "\ufeff"
_QUOTES = 'write words, times and sizes in quotes, for example peer-timeout = "45s"'
_HINTS = {
    "Expected newline or end of document": _QUOTES,
    "Invalid value": _QUOTES,
    "Cannot overwrite a value": "a key occurs twice",
}
"""Hints on the likely mistake, by the start of the error message of ``tomllib``."""


class SettingsFile(configargparse.ConfigFileParser):  # type: ignore[misc]
    """Reads a TOML file; ``keys`` are the keys that it may have."""

    def __init__(self, keys: Collection[str]) -> None:
        super().__init__()
        self._keys = keys

    def parse(self, stream: IO[str]) -> dict[str, str]:
        """Return each key with its value as text. Raise ConfigFileParserException."""
        table = self._read(stream)
        for key, value in table.items():
            if key not in self._keys:
                self._refuse_key(stream.name, key, value)
            if not isinstance(value, str | int) or isinstance(value, bool):
                _refuse(
                    f"{stream.name}: {key} must be a string or a whole number, "
                    f'for example {key} = "..."'
                )
        return {key: str(value) for key, value in table.items()}

    def _refuse_key(self, name: str, key: str, value: object) -> NoReturn:
        if isinstance(value, dict):
            _refuse(f"{name}: {key!r} is a section: write options without a section header")
        _refuse(f"{name}: there is no option {key!r}; {suggestion(key, self._keys)}")

    def _read(self, stream: IO[str]) -> dict[str, object]:
        try:
            text = stream.read()
            if text.startswith(_BYTE_ORDER_MARK):
                _refuse(
                    f"{stream.name}: not a TOML file: it begins with a byte order mark (BOM); "
                    "save it as UTF-8 without one"
                )
            return tomllib.loads(text)
        except UnicodeDecodeError:
            _refuse(f"{stream.name}: not a TOML file: it is not UTF-8 text")
        except tomllib.TOMLDecodeError as error:
            reason = str(error)
            hints = (f"; {hint}" for start, hint in _HINTS.items() if reason.startswith(start))
            _refuse(f"{stream.name}: not a TOML file: {reason}{next(hints, '')}")


def _refuse(message: str) -> NoReturn:
    raise configargparse.ConfigFileParserException(message) from None
