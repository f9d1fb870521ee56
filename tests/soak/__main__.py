"""Soak a server: ``PYTHONPATH=tests python -m soak --time 10m``; status 1 if anything is wrong.

What it leaves is in the folder ``.soak``: ``soak.svg``, the samples, when sessions began and
ended, the server's log, and ``round.txt``, what the source of the last round sends.
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
"""this part of the time says what is normal"""
LEAST_ROUNDS = 2
"""after the warm-up"""
REST_SECONDS = 15.0


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
        """Play rounds for so long; AssertionError says what is wrong."""
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
        """All that there are by now."""
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
        """On a slow machine a short run takes longer, rather than see too little."""
        return not warm or len(self.growth.resting) < LEAST_ROUNDS

    def _await_rest(self) -> None:
        """Wait until nothing is left of the round, and note what the server holds then."""
        seen = len(self.samples())

        def excess() -> str:
            samples = self.samples()[seen:]
            return self.growth.excess(samples[-1], STAYING) if samples else "no sample"

        deadline = time.monotonic() + REST_SECONDS
        while too_much := excess():
            assert time.monotonic() < deadline, f"at the end of the round there are {too_much}"
            gevent.sleep(0.1)
        self.growth.resting.append(self.samples()[-1])
        self.resting.append(self.growth.resting[-1])


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m soak", description=__doc__)
    parser.add_argument("--time", type=duration("5s", "24h"), default=600.0, help="for how long")
    parser.add_argument("--seed", type=int, default=1, help="what the sources send, and when")
    parser.add_argument("--folder", type=Path, default=Path(".soak"), help="for what it leaves")
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
        first, most, last = values[0], max(values), values[-1]
        print(f"{name} at rest: {first:,.0f} first, {most:,.0f} most, {last:,.0f} last")
    return 1 if failure else 0


if __name__ == "__main__":
    sys.exit(main())
