"""Define the result of a run: the verdict, the figures, the latency and the timeline."""

from dataclasses import dataclass, field
from datetime import datetime

from simulator.parameters import Parameters
from simulator.play.server_process import Usage
from simulator.play.timeline import Sample
from simulator.verdict.diagnosis import Fault

PASSED, FAILED = 0, 1
"""Exit statuses of a run."""


@dataclass(frozen=True)
class Verdict:
    """Whether the server passed, and what it did wrong.

    ``faults`` has the first fault of each of the first ten failing clients. ``server_faults`` has
    what the server did wrong other than to clients. ``hint`` is another possible reason to fail.
    """

    failing: int = 0
    faults: list[Fault] = field(default_factory=list)
    source_lost: str | None = None
    server_faults: list[str] = field(default_factory=list)
    hint: str | None = None

    @property
    def status(self) -> int:
        """The exit status: PASSED or FAILED."""
        return FAILED if self.failing or self.source_lost or self.server_faults else PASSED


@dataclass(frozen=True)
class Figures:
    """The throughput of a run, and the resources that the server used."""

    events: int
    deliveries: int
    bytes: int
    seconds: float
    prepared_in: float
    usage: Usage | None  # of the server, from start to stop
    cpu_seconds: float | None = None  # of the server, during the play
    resumes: int = 0  # times that a client came back with its position
    restarts: int = 0  # of the server, after it was killed
    reconnects: int = 0  # times that a source came back
    resent_events: int = 0

    @property
    def events_per_second(self) -> float:
        """Events per second, from the first byte sent to the last received."""
        return self.events / max(self.seconds, 1e-9)

    @property
    def deliveries_per_second(self) -> float:
        """Deliveries per second, over the same time."""
        return self.deliveries / max(self.seconds, 1e-9)

    @property
    def bytes_per_second(self) -> float:
        """Bytes received per second, over the same time."""
        return self.bytes / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Latency:
    """The distribution of latency; seconds."""

    deliveries: int
    clients: int
    percentiles: dict[float, float]
    largest: float
    buckets: list[tuple[float, float, int]]  # from, to, deliveries; a twentieth of a decade wide
    behind: float  # maximum delay of the source behind its rate


@dataclass(frozen=True)
class Result:
    """Everything about one run."""

    parameters: Parameters
    verdict: Verdict
    figures: Figures
    latency: Latency | None
    delivered: list[tuple[int, int]]  # user, deliveries; in the order of connecting
    timeline: list[Sample]
    started: datetime  # UTC
