"""Show progress, log lines, the verdict and the table on the console.

Only ``--json -`` prints to stdout by itself. On a terminal, progress bars are updated four times a
second; elsewhere, a line of progress is printed at each log interval. Both cost next to nothing.
"""

import logging
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

log = logging.getLogger("simulator")

_TERMINAL_INTERVAL = 0.25
"""Time between updates of the progress bars; seconds."""


class ConsoleReport:
    """Shows progress by stage, log lines, the verdict and the table on one console."""

    def __init__(self, level: str, interval: float, console: Console | None = None) -> None:
        self._console = console or Console(highlight=False)
        self._level = level.upper()
        self._handler = _Handler(self._console)
        self._bars: Progress | None = None
        if self._console.is_terminal:
            interval = _TERMINAL_INTERVAL
            self._bars = Progress(
                TextColumn("{task.description:<10}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}%"),
                TextColumn("{task.fields[speed]}"),
                TimeElapsedColumn(),
                console=self._console,
                auto_refresh=False,
                disable=not self.detailed,
            )
        self._interval = interval
        self._next = 0.0

    @property
    def detailed(self) -> bool:
        """Whether the log level shows more than the verdict."""
        return self._level in ("DEBUG", "INFO")

    def __enter__(self) -> Self:
        self._next = time.monotonic() + self._interval
        log.setLevel(self._level)
        log.propagate = False
        log.addHandler(self._handler)
        if self._bars:
            self._bars.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.end_progress()
        log.removeHandler(self._handler)

    def stage(self, name: str, total: int, unit: str) -> "Stage":
        """Begin a stage of the run; ``unit`` is what it counts."""
        bar = self._bars.add_task(name, total=total, speed="") if self._bars else None
        return Stage(name, total, unit, time.monotonic(), bar)

    def due(self, now: float) -> bool:
        """Return whether it is time to show progress. Call this often."""
        return now >= self._next

    def progress(self, now: float, counts: Sequence[tuple["Stage", int]]) -> None:
        """Show how much of each stage is done, and the speed since the last call."""
        self._next = now + self._interval
        for stage, count in counts:
            # The table has the speed of a stage that is done, from the first byte to the last.
            done = count == stage.total
            speed = "" if done else f"{stage.speed(now, count):,.0f} {stage.unit}/s"
            if self._bars and stage.bar is not None:
                self._bars.update(stage.bar, completed=count, speed=speed)
            else:
                pace = f", {speed}" if speed else ""
                log.info("%s %s of %s%s", stage.name, f"{count:,}", f"{stage.total:,}", pace)
        if self._bars:
            self._bars.refresh()

    def end_progress(self) -> None:
        """Stop the progress bars, so that further output stays below them."""
        if self._bars:
            self._bars.refresh()
            self._bars.stop()

    def print_line(self, text: str) -> None:
        """Print a line at every log level."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def table(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print the table of figures."""
        if not self.detailed:
            return
        table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
        table.add_column()
        table.add_column(justify="right")
        for name, value in rows:
            table.add_row(name, value)
        self._console.print(table)


class Stage:
    """One stage of a run, and its speed since it was last shown."""

    def __init__(self, name: str, total: int, unit: str, began: float, bar: TaskID | None) -> None:
        self.name = name
        self.total = total
        self.unit = unit
        self.bar = bar
        self._seen = began
        self._count = 0

    def speed(self, now: float, count: int) -> float:
        """Return units per second since the last call."""
        speed = (count - self._count) / max(now - self._seen, 1e-3)
        self._seen, self._count = now, count
        return speed


class _Handler(logging.Handler):
    """Prints log lines through the console, so that they do not break the progress bars."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console
        self.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print(self.format(record), markup=False, highlight=False, soft_wrap=True)
