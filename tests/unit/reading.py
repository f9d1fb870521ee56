"""How tests have settings read: from a command line, and from an environment of their own."""

from collections.abc import Callable

import pytest

from maze.settings.options import Settings
from maze.settings.parser import read_settings

Write = Callable[[str], str]
"""writes the file that ``--config`` names"""


def read(*arguments: str, **environment: str) -> Settings:
    return read_settings(arguments, environment)


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str, **environment: str) -> str:
    """The one line with which the settings are refused."""
    with pytest.raises(SystemExit) as exit_:
        read(*arguments, **environment)
    assert exit_.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert err.startswith("maze: ")
    return err.removeprefix("maze: ").rstrip()
