"""What a run breaks, and when: chosen by its seed from the combinations that make sense."""

from __future__ import annotations

from random import Random
from typing import NamedTuple

KILL, TERM, STOP, LONG_STOP = "kill", "term", "stop-1s", "stop-20s"
LEASE_STOP = "stop-5s"
"""Longer than a lease lasts."""

TRIM_STOP = "stop-until-trimmed"
"""Stop until the journal no longer has what the process needs next."""

CUT, HOLD, DELAY, SLOW = "cut-in-reply", "hold-1s", "delay-50ms", "2MB/s"
FULL, POWER = "disk-full", "power-cut"

OF_PROCESS = (KILL, KILL, TERM, STOP, LONG_STOP)
OF_LINK = (CUT, CUT, HOLD, DELAY, SLOW)

FAULTS: dict[str, dict[str, tuple[str, ...]]] = {
    "parent": {
        "parent": (KILL, KILL, TERM, STOP),
        "ingest": (*OF_PROCESS, FULL),
        "edge": OF_PROCESS,
    },
    "feed": {
        "ingest": (*OF_PROCESS, FULL),
        "edge": OF_PROCESS,
        "edge:ingest": OF_LINK,
    },
    "redis": {
        "ingest": (*OF_PROCESS, LEASE_STOP),
        "standby": OF_PROCESS,
        "edge": (*OF_PROCESS, TRIM_STOP),
        "redis": (*OF_PROCESS, POWER, FULL),
        "ingest:redis": OF_LINK,
        "edge:redis": OF_LINK,
    },
    "sentinel": {
        "ingest": (KILL, STOP, TERM),
        "edge": (KILL, STOP),
        "redis": OF_PROCESS,
        "replica": (KILL, STOP),
        "sentinel": (KILL, STOP, LONG_STOP),
    },
}
"""For each form, the targets and their faults. A fault named twice is chosen twice as often."""

IDLE, STEADY, FAST = "idle", "10000/s", "fast"
LOADS = (IDLE, STEADY, STEADY, FAST, FAST)

PLAIN, SNAPSHOT, TRIM, TAKEOVER, RESUMING = "plain", "snapshot", "trim", "takeover", "resuming"
MOMENTS = (PLAIN, SNAPSHOT, TRIM, TAKEOVER, RESUMING)

FORM_SHARES = ("parent", "feed", "feed", "redis", "redis", "redis", "sentinel")
"""Forms, as often as they are chosen."""


class Plan(NamedTuple):
    """A run."""

    seed: int
    form: str
    target: str
    fault: str
    load: str
    moment: str

    def __str__(self) -> str:
        return (
            f"seed {self.seed}: {self.form}, {self.fault} of {self.target}, "
            f"load {self.load}, moment {self.moment}"
        )

    @property
    def random(self) -> Random:
        """A generator for what the plan does not say."""
        return Random(f"{self.seed} chaos run")


def plan_of(seed: int, form: str | None = None) -> Plan:
    """Choose a run, of one form if it is named."""
    choose = Random(f"{seed} chaos").choice
    form = form or choose(FORM_SHARES)
    target = choose(sorted(FAULTS[form]))
    fault = choose(FAULTS[form][target])
    load = choose([FAST] if fault == TRIM_STOP else LOADS)
    moment = choose([each for each in MOMENTS if makes_sense(form, target, fault, load, each)])
    return Plan(seed, form, target, fault, load, moment)


def makes_sense(form: str, target: str, fault: str, load: str, moment: str) -> bool:
    """Return whether the fault can come at that moment, and every byte must still arrive."""
    if fault == TRIM_STOP:
        return moment == TRIM
    if moment == TAKEOVER:
        return form == "redis" and target != "standby" and fault != POWER
    if moment == TRIM:  # while idle, nothing is trimmed
        return load != IDLE and form != "sentinel"
    return True
