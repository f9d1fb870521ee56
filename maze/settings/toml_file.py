"""The configuration file: flat TOML, whose keys are the flags without their dashes.

Must never know which options there are; it is told their keys.
"""

import tomllib
from collections.abc import Collection
from typing import IO, NoReturn

import configargparse

_QUOTES = 'words, times and sizes stand in quotes, as in peer-timeout = "45s"'
_HINTS = {
    "Expected newline or end of document": _QUOTES,
    "Invalid value": _QUOTES,
    "Cannot overwrite a value": "a key stands there twice",
}
"""for the parser's own words, what whoever wrote the file may have meant"""


class SettingsFile(configargparse.ConfigFileParser):  # type: ignore[misc]
    """Reads such a file; ``keys`` are those that it may have."""

    def __init__(self, keys: Collection[str]) -> None:
        super().__init__()
        self._keys = keys

    def parse(self, stream: IO[str]) -> dict[str, str]:
        """Every key with its value as text; raises ConfigFileParserException."""
        for key, value in (table := self._read(stream)).items():
            if key not in self._keys and isinstance(value, dict):
                _refuse(f"{stream.name}: sections are not used, and {key!r} is one")
            if key not in self._keys:
                _refuse(
                    f"{stream.name}: there is no option {key!r}; see --help for those there are"
                )
            if not isinstance(value, str | int) or isinstance(value, bool):
                _refuse(
                    f"{stream.name}: {key} has to be text or a whole number, "
                    f'for example {key} = "..."'
                )
        return {key: str(value) for key, value in table.items()}

    def _read(self, stream: IO[str]) -> dict[str, object]:
        try:
            return tomllib.loads(stream.read())
        except UnicodeDecodeError:
            _refuse(f"{stream.name}: not a TOML file: it is not text in UTF-8")
        except tomllib.TOMLDecodeError as error:
            said = str(error)
            hints = (f"; {hint}" for words, hint in _HINTS.items() if said.startswith(words))
            _refuse(f"{stream.name}: not a TOML file: {said}{next(hints, '')}")


def _refuse(message: str) -> NoReturn:
    raise configargparse.ConfigFileParserException(message) from None
