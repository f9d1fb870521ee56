"""Kill the server during a play and start it again, several times."""

from collections.abc import Sequence
from contextlib import ExitStack
from random import Random
from typing import NamedTuple

from simulator.errors import ServerProcessError
from simulator.play.server_process import ServerProcess, Usage

_MAX_DELAY = 0.05
"""Maximum time from when clients have received enough until the server is killed; seconds."""


class Restart(NamedTuple):
    """When the server is killed: some time after clients have received a share of all bytes.

    Bytes sent would be no measure: the kernel takes megabytes before the server has read any.
    """

    share: float
    delay: float  # seconds


def restarts(seed: int, count: int) -> tuple[Restart, ...]:
    """Choose at random when the server is killed, in order."""
    draw = Random(f"{seed} restarts").random
    shares = sorted(0.02 + 0.96 * draw() for _ in range(count))
    return tuple(Restart(share, _MAX_DELAY * draw()) for share in shares)


class RestartSchedule:
    """Says when the next restart is due."""

    def __init__(self, restarts: Sequence[Restart], total_bytes: int) -> None:
        self._restarts = list(restarts)
        self._total_bytes = total_bytes
        self._at: float | None = None
        # The restarts depend on the seed, so this does, too.
        self.draw = Random(f"{restarts} clients").random

    @property
    def pending(self) -> bool:
        """Whether the server is still to be killed."""
        return bool(self._restarts)

    def is_reached(self, received: int) -> bool:
        """Return whether enough bytes were received for the next restart: only a delay is left."""
        if not self._restarts:
            return False
        return received >= int(self._restarts[0].share * self._total_bytes)

    def due(self, now: float, received: int) -> bool:
        """Return whether the next restart is due, after so many bytes."""
        if not self.is_reached(received):
            return False
        if self._at is None:
            self._at = now + self._restarts[0].delay
        return now >= self._at

    def hasten(self) -> None:
        """Let the next restart be due without more bytes."""
        self._restarts[0] = self._restarts[0]._replace(share=0.0)

    def done(self) -> None:
        """Go on to the next restart."""
        del self._restarts[0]
        self._at = None


class ServerLives:
    """The server of a run: one process, or one after another on the same ports."""

    def __init__(self, command: Sequence[str], stack: ExitStack) -> None:
        """Start the first process; ``stack`` stops whichever runs at the end."""
        self._command = command
        self._stack = stack
        self._lives = [stack.enter_context(ServerProcess(command))]
        self.source_port = self._current.source_port
        self.client_port = self._current.client_port
        self._not_back: str | None = None

    @property
    def _current(self) -> ServerProcess:
        return self._lives[-1]

    @property
    def pid(self) -> int:
        """The process id of the present process."""
        return self._current.pid

    @property
    def restarts(self) -> int:
        """How often the server came back."""
        return len(self._lives) - 1

    @property
    def fault(self) -> str | None:
        """What was wrong with the end of a process, or with its start after it was killed."""
        return self._not_back or next((life.fault for life in self._lives if life.fault), None)

    @property
    def usage(self) -> Usage | None:
        """The resources that all processes used; None while one runs."""
        used = [life.usage for life in self._lives]
        known = [usage for usage in used if usage is not None]
        if len(known) < len(used):
            return None
        return Usage(
            sum(usage.cpu_seconds for usage in known), max(usage.peak_bytes for usage in known)
        )

    def has_ended(self) -> bool:
        """Return whether the server has ended by itself; wait up to a second for its end."""
        return self._current.has_ended()

    def restart(self) -> bool:
        """Kill the server and start it again; return whether it is ready."""
        self._current.kill()
        ports = (str(self.source_port), str(self.client_port))
        # The last of equal options counts.
        command = [*self._command, "--source-port", ports[0], "--client-port", ports[1]]
        try:
            self._lives.append(self._stack.enter_context(ServerProcess(command)))
        except ServerProcessError as error:
            self._not_back = f"after it was killed, {error}"
            return False
        return True
