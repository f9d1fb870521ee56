"""Kill servers in mid-run and start them again: what they told their clients must stay true.

    python -m tests.faults.crashes --kills 100 --power-cuts 20

The simulator plays a stream, kills the server with SIGKILL at random moments, and sends again from
the last acknowledgement; all clients resume. Each client's joined bytes must be exactly its own.
The seed of a run determines its stream, the server's options, and when it is killed.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from simulator.cli import main as simulate
from simulator.play.server_process import COMMAND

ROOT = Path(__file__).parents[2]
MAX_KILLS = 10
"""Maximum kills of a run."""


class Crashes(NamedTuple):
    """A run: its seed, its events, and how often the server is killed or its power is cut."""

    seed: int
    kills: int
    events: int
    is_power_cut: bool
    seconds: Sequence[float | None] = (None, 2, 5, 10)
    """From these the seed chooses how long the source takes to send; None is as fast as it can."""
    edges: Sequence[int] = (0, 0, 2)
    """From these the seed chooses how many edges there are; the parent is killed."""

    def arguments(self, folder: Path) -> list[str]:
        """Return the simulator's arguments. The journal and the result are kept in the folder."""
        choose = Random(f"{self.seed} crashes").choice
        seconds = choose(self.seconds)
        clients = choose([20, 40, 100])
        options = {
            "--journal": str(folder / "journal"),
            "--journal-sync": choose(["full", "normal"]),
            "--resume-events": choose(["0", "1000", "1000000"]),
            "--snapshot-events": choose(["500", str(self.events // 20), "10000000"]),
            "--source-acks": "on",
        }
        if self.is_power_cut:
            options["--journal-sync"] = "full"
        else:
            options["--edges"] = str(choose(self.edges))
        words = [word for option in options.items() for word in option]
        return [
            *("--serve", "--resend", "--restart-server", str(self.kills)),
            *("--server-options", shlex.join(words)),
            *("--random-seed", str(self.seed), "--total-events", str(self.events)),
            *("--concurrency-level", str(clients)),
            *("--resuming", choose(["0", str(clients // 2)])),
            *("--sources", choose(["1", "1", "2"])),
            *("--max-event-source-batch-size", choose(["1", "10", "100", "1000"])),
            *("--mix", choose(["original", "original", "3,2,0.1,2,3"])),
            *("--duplicates", choose(["0", "1"]), "--malformed", choose(["0", "0.5"])),
            *(("--rate", str(max(1, int(self.events / seconds)))) if seconds else ()),
            *("--timeout", "60000", "--log-interval", "10000"),
            *("--json", str(folder / "result.json")),
        ]

    def program(self) -> list[str]:
        """Return the module that serves, and its first arguments."""
        fault = "slow_journal" if self.is_slow else "none"
        if self.is_power_cut:
            return ["tests.faults.power_cut", fault, str(self.seed)]
        return ["tests.faults.broken", fault]

    @property
    def is_slow(self) -> bool:
        """Whether each commit takes long, so that many a kill comes before one."""
        return Random(f"{self.seed} disk").random() < 0.5

    def run(self, folder: Path) -> dict[str, Any]:
        """Run in an empty folder; return the figures. Raise AssertionError."""
        arguments = self.arguments(folder)
        command = (sys.executable, "-m", *self.program(), *COMMAND[3:])
        print(shlex.join(self.program()), "|", shlex.join(arguments), flush=True)
        status = simulate(arguments, command)
        assert status == 0, f"the simulator's status is {status}"
        result = json.loads((folder / "result.json").read_text())
        figures: dict[str, Any] = result["figures"]
        assert figures["restarts"] == self.kills
        check(folder / "journal")
        return figures


def check(journal: Path) -> None:
    """Assert that ``python -m maze.journal check`` finds no fault."""
    run = subprocess.run(
        [sys.executable, "-m", "maze.journal", "check", str(journal)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "no faults" in run.stdout


def planned(kills: int, is_power_cut: bool, seed: int, events: int) -> list[Crashes]:
    """Return runs that together have so many kills."""
    runs: list[Crashes] = []
    while kills:
        seed += 1
        some = min(kills, 1 + Random(f"{seed} kills").randrange(MAX_KILLS))
        runs.append(Crashes(seed, some, events, is_power_cut))
        kills -= some
    return runs


def main() -> int:
    """Run from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.crashes", description=__doc__)
    parser.add_argument("--kills", type=int, default=100, help="kills of the process")
    parser.add_argument("--power-cuts", type=int, default=20, help="kills with a power cut")
    parser.add_argument("--events", type=int, default=1_000_000, help="events of a run")
    parser.add_argument("--seed", type=int, default=1_000, help="seed of the runs")
    parser.add_argument("--folder", type=Path, default=Path(".crashes"), help="folder for the runs")
    given = parser.parse_args()
    runs = planned(given.kills, False, given.seed, given.events)
    runs += planned(given.power_cuts, True, given.seed + 10_000, given.events)
    passed = {False: 0, True: 0}
    failed: list[int] = []
    for run in runs:
        folder = given.folder / str(run.seed)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        began = time.monotonic()
        try:
            figures = run.run(folder)
        except AssertionError as error:
            failed.append(run.seed)
            print(f"FAILED with seed {run.seed}: {error}; see {folder}", flush=True)
            continue
        passed[run.is_power_cut] += run.kills
        print(
            f"seed {run.seed}: {run.kills} {'power cuts' if run.is_power_cut else 'kills'}, "
            f"{figures['resumes']} resumes, {figures['resent_events']} events sent again, "
            f"{time.monotonic() - began:.0f} s; so far {passed[False]} kills and "
            f"{passed[True]} power cuts passed, {len(failed)} runs failed",
            flush=True,
        )
        shutil.rmtree(folder)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
