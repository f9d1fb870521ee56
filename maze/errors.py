"""Errors that end the server with one line on stderr; the message says what, where and why."""


class MazeError(Exception):
    """The server cannot start."""

    status = 1
    """the process's exit status"""


class SettingsError(MazeError):
    """Settings are wrong."""

    status = 2


class ListenError(MazeError):
    """A port cannot be listened on."""


class RejectFileError(MazeError):
    """The reject file cannot be opened."""
