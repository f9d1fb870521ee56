"""Soak a server: ``PYTHONPATH=tests python -m soak --time 10m``; status 1 if a check fails.

The folder ``.soak`` gets the results: the plot ``soak.svg``, the samples, when sessions began and
ended, the server's log, and ``round.txt``, the stream of the last round.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

import gevent
from end_to_end.running import Child

from maze.settings.option_types import duration

from .growth import Growth, Sample
from .plot import draw
from .rounds import STAYING, Rounds

SERVER = [
    *("--handshake-timeout", "1s", "--stall-timeout", "1s", "--drain-timeout", "5s"),
    *("--client-buffer", "64KiB", "--reorder-limit", "2000"),
]
WARM_UP = 0.25
"""Share of the time that is warm-up; its counts are the limits for the rest."""
MIN_ROUNDS = 2
"""Minimum rounds after the warm-up."""
REST_SECONDS = 15.0
"""Maximum time from the end of a round until the server is at rest."""


class Soak:
    """One run of the soak."""

    def __init__(self, seconds: float, seed: int, folder: Path) -> None:
        self.folder = folder
        self.growth = Growth()
        self.resting: list[Sample] = []
        self.counts: Counter[str] = Counter()
        self._seconds = seconds
        self._seed = seed
        self._samples_file = folder / "samples.jsonl"
        self._sessions_file = folder / "sessions.txt"
        for file in (self._samples_file, self._sessions_file):
            file.unlink(missing_ok=True)

    def run(self) -> None:
        """Play rounds until the time is over; raise AssertionError if a check fails."""
        program = ("-m", "soak.server", str(self._samples_file))
        with Child(*SERVER, program=program) as child:
            try:
                child.ready()
                addresses = child.source_address, child.client_address
                rounds = Rounds(*addresses, self._sessions_file, self._seed, self.counts)
                self._play(rounds)
                child.signal(signal.SIGTERM)
                assert child.status() == 0, f"the exit status is {child.status()}"
                rounds.close()
                assert "Traceback" not in child.stderr(), "there is a traceback in the log"
            finally:
                (self.folder / "server.log").write_text(child.stderr())
        self.growth.check_memory()

    def samples(self) -> list[Sample]:
        """Return all samples so far."""
        lines = self._samples_file.read_text().rpartition("\n")[0].splitlines()
        return [json.loads(line) for line in lines]

    def _play(self, rounds: Rounds) -> None:
        begin = time.monotonic()
        warm = False
        while (passed := time.monotonic() - begin) < self._seconds or self._is_too_early(warm):
            if not warm and passed > self._seconds * WARM_UP and self.growth.resting:
                self.growth.end_warm_up()
                warm = True
            stream = rounds.next_stream()
            (self.folder / "round.txt").write_bytes(stream.sent)
            rounds.play(stream)
            self._await_rest()

    def _is_too_early(self, warm: bool) -> bool:
        """Return whether the run must go on although its time is over: the machine is slow."""
        return not warm or len(self.growth.resting) < MIN_ROUNDS

    def _await_rest(self) -> None:
        """Wait until the server holds nothing of the round; record the sample at rest."""
        seen = len(self.samples())

        def excess() -> str:
            samples = self.samples()[seen:]
            return self.growth.excess(samples[-1], STAYING) if samples else "no sample"

        deadline = time.monotonic() + REST_SECONDS
        while found := excess():
            assert time.monotonic() < deadline, f"at the end of the round there are {found}"
            gevent.sleep(0.1)
        self.growth.resting.append(self.samples()[-1])
        self.resting.append(self.growth.resting[-1])


def main() -> int:
    """Run the soak from the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--time", type=duration("5s", "24h"), default=600.0, help="duration")
    parser.add_argument("--seed", type=int, default=1, help="seed of the streams and the visitors")
    parser.add_argument("--folder", type=Path, default=Path(".soak"), help="folder for the results")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    soak = Soak(options.time, options.seed, options.folder)
    failure = ""
    try:
        soak.run()
    except AssertionError as error:
        traceback.print_exc()
        failure = f" FAILED with seed {options.seed}: {error}"
    draw(soak.samples(), soak.resting, options.folder / "soak.svg")
    print(", ".join(f"{count:,} {name}" for name, count in soak.counts.items()) + failure)
    for name in ("resident_bytes", "descriptors", "greenlets"):
        values = [sample[name] for sample in soak.resting] or [0]
        first, highest, last = values[0], max(values), values[-1]
        print(f"{name} at rest: {first:,.0f} first, {highest:,.0f} maximum, {last:,.0f} last")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
