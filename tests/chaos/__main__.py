"""Break a running service again and again: ``PYTHONPATH=tests python -m chaos --time 10m``.

Each run starts one form of the service, breaks one part of it under load, and checks every byte.
The seed of a run determines what it breaks, and when. ``--seed`` plays one run again.
"""

from gevent import monkey

monkey.patch_all()

import argparse  # noqa: E402
import shutil  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402
import traceback  # noqa: E402
from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

from maze.settings.option_types import duration  # noqa: E402

from .forms import FORMS  # noqa: E402
from .plan import Plan, plan_of  # noqa: E402
from .run import MANY_CLIENTS, Run  # noqa: E402
from .scenarios import SCENARIOS, failure_of  # noqa: E402


def main() -> int:
    """Run from the command line; return the exit status."""
    given = _parser().parse_args()
    has_redis = bool(shutil.which("redis-server"))
    if not has_redis:
        print("redis-server is not installed: its forms are skipped")
    if given.mutant:
        return _find(given.mutant, given.folder.absolute())
    began = time.monotonic()
    count, failed = 0, []
    for plan in _plans(given):
        if not (has_redis or plan.form in ("parent", "feed")):
            continue
        count += 1
        if not _run(plan, given):
            failed.append(plan.seed)
    seconds = time.monotonic() - began
    print(f"{count} runs in {seconds:.0f} s, {len(failed)} failed{': ' if failed else ''}", end="")
    print(*failed, sep=", ", flush=True)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--time", type=duration("1s", "24h"), help="begin no run after this time")
    parser.add_argument("--runs", type=int, help="number of runs (default: 1, without --time)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the first run")
    parser.add_argument("--form", choices=sorted(FORMS), help="run only this form")
    parser.add_argument(
        "--mutant", choices=sorted(SCENARIOS), help="show that a server without this is detected"
    )
    parser.add_argument(
        "--clients", type=int, default=MANY_CLIENTS, help="number of clients that resume at once"
    )
    parser.add_argument(
        "--strict",
        action="store_true",
        help="also fail if service resumes too late, or if a server blocks its event loop",
    )
    parser.add_argument(
        "--folder", type=Path, default=Path(".chaos"), help="folder for failed runs"
    )
    return parser


def _plans(given: argparse.Namespace) -> Iterator[Plan]:
    """Return the plans of all runs."""
    began = time.monotonic()
    runs = given.runs or (sys.maxsize if given.time else 1)
    for seed in range(given.seed, given.seed + runs):
        if given.time and time.monotonic() - began > given.time:
            return
        yield plan_of(seed, given.form)


def _find(mutant: str, folder: Path) -> int:
    """Show that a mutant is found; return the exit status."""
    folder = _empty(folder / mutant)
    try:
        print(f"{mutant} was found: {failure_of(mutant, folder)}")
    except AssertionError as error:
        print(f"FAILED, see {folder}: {error}")
        return 1
    shutil.rmtree(folder)
    return 0


def _empty(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _run(plan: Plan, given: argparse.Namespace) -> bool:
    """Run a plan, and print the result; a failed run keeps its folder."""
    folder = _empty(given.folder.absolute() / str(plan.seed))
    print(plan, end=": ", flush=True)
    try:
        result = Run(plan, folder, many_clients=given.clients, is_strict=given.strict).run()
    except Exception as error:
        trace = traceback.format_exc()
        (folder / "failure.txt").write_text(f"{plan}\n{error}\n\n{trace}")
        print(f"FAILED, see {folder}: {error}", flush=True)
        return False
    print(result, flush=True)
    shutil.rmtree(folder)
    return True


if __name__ == "__main__":
    sys.exit(main())
