"""For each mutant, a run that finds it, and what the run must say."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from . import checks
from . import plan as plans
from .plan import Plan
from .run import Run

INGESTS = ("ingest", "standby")
EDGES = ("edge-1", "edge-2")

WAIT_SECONDS = 3.0
"""Time in which a run must find that two ingests write; a mutant never stops."""


class Scenario(NamedTuple):
    """A run, the processes that are mutants, and the failure that it must end with."""

    plan: Plan
    mutants: Sequence[str]
    failure: str
    staying: int = 0
    """Clients that stay at their edge, whatever happens; the first is at the first edge."""


def _redis(target: str, fault: str, load: str = plans.STEADY, moment: str = plans.PLAIN) -> Plan:
    return Plan(1, "redis", target, fault, load, moment)


SCENARIOS = {
    "no-fence-check": Scenario(
        _redis("ingest", plans.LEASE_STOP), INGESTS, r"ingest and standby write at once"
    ),
    "no-gap-check": Scenario(
        _redis("redis", plans.POWER), INGESTS, r"no batch|edge-\d ended with status 1"
    ),
    "no-contiguity-check": Scenario(
        _redis("edge", plans.TRIM_STOP, plans.FAST, plans.TRIM),
        EDGES,
        r"other bytes than its own",
        staying=len(EDGES),  # whoever comes back from another edge misses nothing
    ),
    "tail-dropped-early": Scenario(
        _redis("redis", plans.POWER),
        INGESTS,
        r"acknowledged everything below|edge-\d ended with status 1",
    ),
    "two-appenders": Scenario(
        _redis("edge", plans.KILL), INGESTS, r"ingest and standby write at once"
    ),
}


def failure_of(name: str, folder: Path) -> str:
    """Run a mutant's scenario; return the failure. Raise AssertionError if it is not found."""
    scenario = SCENARIOS[name]
    checks.FENCED_SECONDS = WAIT_SECONDS
    program = ("-m", "chaos.mutants", name)
    try:
        run = Run(
            scenario.plan,
            folder,
            dict.fromkeys(scenario.mutants, program),
            staying=scenario.staying,
        )
        run.run()
    except AssertionError as error:
        found = str(error)
    else:
        raise AssertionError(f"{scenario.plan}: the mutant {name} was not found")
    assert re.search(scenario.failure, found), f"the mutant {name} failed otherwise: {found}"
    return found
