"""Owns what a run gives: the verdict, the figures, and all that was measured beside them.

Must never know how any of it is shown.
"""

from dataclasses import dataclass, field
from datetime import datetime

from simulator.parameters import Parameters
from simulator.play.server_process import Usage
from simulator.play.timeline import Sample
from simulator.verdict.diagnosis import Fault

PASSED, FAILED = 0, 1


@dataclass(frozen=True)
class Verdict:
    """How a run ended.

    `faults` are those of the first ten failing clients; `server_faults` are what the server did
    wrong other than in what it sent to clients; `hint` is another possible reason.
    """

    failing: int = 0
    faults: list[Fault] = field(default_factory=list)
    source_lost: str | None = None
    server_faults: list[str] = field(default_factory=list)
    hint: str | None = None

    @property
    def status(self) -> int:
        """The exit status: 0 if every client received exactly what it should, and no more."""
        return FAILED if self.failing or self.source_lost or self.server_faults else PASSED


@dataclass(frozen=True)
class Figures:
    """What a run measured."""

    events: int
    deliveries: int
    bytes: int
    seconds: float
    prepared_in: float
    usage: Usage | None  # of the server's whole life
    cpu_seconds: float | None = None  # of the server, in the play alone

    @property
    def events_per_second(self) -> float:
        """From the first byte sent to the last received."""
        return self.events / max(self.seconds, 1e-9)

    @property
    def deliveries_per_second(self) -> float:
        """The same for what the clients received."""
        return self.deliveries / max(self.seconds, 1e-9)

    @property
    def bytes_per_second(self) -> float:
        """The same in bytes received."""
        return self.bytes / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Latency:
    """The distribution; seconds."""

    deliveries: int
    clients: int
    percentiles: dict[float, float]
    largest: float
    buckets: list[tuple[float, float, int]]  # from, to, deliveries; a twentieth of a decade each
    behind: float  # the most that the source was behind its rate


@dataclass(frozen=True)
class Result:
    """Everything about one run."""

    parameters: Parameters
    verdict: Verdict
    figures: Figures
    latency: Latency | None
    delivered: list[tuple[int, int]]  # user and deliveries, in the order of connecting
    timeline: list[Sample]
    started: datetime  # UTC
