"""Errors that prevent the server from starting; the message becomes one line on stderr."""


class MazeError(Exception):
    """The server cannot start."""

    status = 1
    """Exit status of the process."""


class SettingsError(MazeError):
    """Settings are wrong or contradict each other."""

    status = 2


class ListenError(MazeError):
    """The server cannot listen on a port."""


class TemporaryFolderError(MazeError):
    """No folder for temporary files can be made."""


class RejectFileError(MazeError):
    """The reject file cannot be opened."""


class JournalUnusableError(MazeError):
    """The journal cannot be opened or read."""


class JournalFencedError(JournalUnusableError):
    """Another process has begun to write the journal."""

    status = 3
