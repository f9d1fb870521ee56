"""The oracle: what must hold during a run, and at its end."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

import gevent

from simulator.stream.workload import Workload

from .clients import ChaosClient
from .forms import Form
from .plan import FULL, LONG_STOP, POWER, TERM, TRIM, TRIM_STOP, Plan
from .processes import Process
from .stores import journal_command

SAMPLE_SECONDS = 0.1

EXPECTED_ERRORS = {
    "process_ended",
    "feed_unavailable",
    "journal_unavailable",
    "journal_fenced",
}
"""Log events of level error or critical that any fault may cause."""

FENCED_STATUS = 3
FENCED_SECONDS = 10.0
"""Maximum time until an ingest finds out that another one writes."""


class Watch:
    """Samples the journal and the clients during a run."""

    def __init__(self, form: Form, plan: Plan, clients: Sequence[ChaosClient]) -> None:
        self._form = form
        self._clients = clients
        self._may_lose = may_lose(plan)
        self.fences: list[int] = []
        self.faults: list[str] = []
        self.samples = 0
        self._greenlet = gevent.spawn(self._run)

    def stop(self) -> None:
        """Take a last sample."""
        self._greenlet.kill()
        self.sample()

    def _run(self) -> None:
        while True:
            self.sample()
            gevent.sleep(SAMPLE_SECONDS)

    def sample(self) -> None:
        """Compare what the clients have with what the journal has."""
        delivered = max(client.next for client in self._clients)  # before the journal is read
        state = self._form.store.state()
        if state is None:
            return
        self.samples += 1
        self.fences.append(state.fence)
        if state.next < delivered and not self._may_lose:
            self.faults.append(
                f"a client has everything below {delivered}, but the journal only what is below "
                f"{state.next}"
            )

    def check(self) -> None:
        """Raise AssertionError if something did not hold."""
        assert not self.faults, self.faults[0]
        assert self.samples, "the journal could never be read"
        fences = self.fences
        if self._may_lose:  # a fence that was lost is told again
            assert fences[-1] == max(fences), f"the last fence is not the highest: {fences}"
        else:
            assert fences == sorted(fences), f"the fences do not rise: {fences}"


def check_clients(clients: Sequence[ChaosClient]) -> None:
    """Assert that each client has exactly its bytes."""
    for client in clients:
        assert client.complete, client.describe()
        assert not client.wrong, client.describe()


def check_journal(form: Form, workload: Workload, plan: Plan) -> None:
    """Assert that the journal is whole, and has exactly the stream."""
    run = journal_command("check", form.store)
    assert run.returncode == 0, f"the journal has faults: {(run.stdout + run.stderr).decode()}"
    run = journal_command("dump", form.store)
    assert run.returncode == 0, run.stderr.decode()
    stream = b"".join(line for step in workload.steps() for line in step.lines)
    if plan.moment == TRIM:
        assert stream.endswith(run.stdout), "the journal has other lines than the stream"
        is_trimmed = len(run.stdout) < len(stream)
        assert is_trimmed or may_lose(plan), "nothing was trimmed"  # a snapshot may be lost, too
    else:
        assert run.stdout == stream, "the journal has other lines than the stream"


def check_one_writes(form: Form) -> None:
    """Assert that only one ingest takes sources; wait for one that finds out that it is fenced."""
    deadline = time.monotonic() + FENCED_SECONDS

    def writing() -> list[str]:
        return [name for name in form.ingests if form.processes[name].is_ready]

    while len(writing()) > 1 and time.monotonic() < deadline:
        gevent.sleep(SAMPLE_SECONDS)
    assert len(writing()) <= 1, f"{' and '.join(writing())} write at once"


def check_endings(form: Form, plan: Plan) -> None:
    """Assert that processes ended only in ways that the fault explains."""
    for process in form.processes.values():
        expected = process.expected | ({FENCED_STATUS} if process.name in form.ingests else set())
        if may_be_refused(form, plan, process):
            expected.add(1)
        if plan.fault == TERM and process.name in form.ingests:
            expected.add(-signal.SIGTERM)  # while it waits for the lease
        for status, _ in process.endings:
            assert status in expected, f"{process.name} ended with status {status}"


def check_logs(form: Form, plan: Plan) -> None:
    """Assert that no log has a traceback, or an error that the fault does not explain."""
    for process in form.processes.values():
        expected = set(EXPECTED_ERRORS)
        if may_be_cut_off(plan, process):
            expected |= {"feed_behind", "edge_dropped"}
        if plan.fault == FULL or is_over_redis(plan):
            expected.add("snapshot_failed")
        may_be_text = may_be_refused(form, plan, process)
        assert "Traceback" not in process.log.read_text(), f"{process.log} has a traceback"
        for line in process.lines():
            is_expected = line["event"] in expected
            is_expected |= may_be_text and line.get("text", "").startswith("maze: ")
            is_expected |= line["event"] == "hub_blocked" and is_starting(line["what"])
            is_error = line.get("level") in ("error", "critical")
            assert is_expected or not is_error, f"{process.name} logged {line}"


def is_starting(stack: str) -> bool:
    """Return whether a server blocked its event loop before it could be reached.

    Only the main greenlet starts a server, and does nothing else. Its imports alone take 100 ms.
    """
    return " < main (serve.py" in stack


def may_lose(plan: Plan) -> bool:
    """Return whether Redis may lose what it has confirmed; the ingest appends events again."""
    return plan.fault == POWER or plan.form == "sentinel"


def is_over_redis(plan: Plan) -> bool:
    """Return whether Redis may be away or, on a busy machine, too slow, and an ingest be fenced."""
    return plan.form in ("redis", "sentinel")


def may_be_refused(form: Form, plan: Plan, process: Process) -> bool:
    """Return whether a process may find no journal when it starts, so that it ends at once."""
    if process.name == "parent":  # its former children end up to a second later
        return plan.target == "parent"
    return process.name in form.ingests and is_over_redis(plan)


def may_be_cut_off(plan: Plan, process: Process) -> bool:
    """Return whether an edge may lack what the journal no longer has."""
    is_stopped = plan.target == "edge" and plan.fault in (LONG_STOP, TRIM_STOP)
    is_edge = process.name.startswith("edge")
    return plan.form == "redis" and plan.moment == TRIM and is_stopped and is_edge
