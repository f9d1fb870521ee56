"""What the log advises if the stream of the sources is not the one that the server waits for."""

from maze.settings.options import Settings


class BeginAdvice:
    """Says how the server begins at another number, or begins anew: the journal has a say in it."""

    def __init__(self, settings: Settings) -> None:
        self._journal = settings.journal
        self._is_in_redis = settings.is_in_redis

    def forget_journal(self) -> None:
        """Do not name the journal: it is temporary, and ends with the server."""
        self._journal = None

    def begin_at(self, number: int) -> str:
        """Say how the stream begins at a number; a journal that exists keeps its own."""
        option = f"--first-sequence {number}"
        if self._is_in_redis:
            return f"start the server with {option} and another --journal-name"
        if self._journal is None:
            return f"start the server with {option}"
        reset = f"python -m maze.journal reset {self._journal} {option}"
        return f"stop the server, run {reset}, and start the server with {option}"

    def begin_anew(self) -> str:
        """Say how the server forgets the stream that it had."""
        if self._is_in_redis:
            return "stop the server and start it with another --journal-name"
        if self._journal is None:
            return "stop the server and start it again"
        return f"stop the server and run python -m maze.journal reset {self._journal}"
