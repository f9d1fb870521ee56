"""Inject a fault into a running form, and end it."""

from __future__ import annotations

import os
import resource
import signal
from contextlib import suppress
from pathlib import Path
from random import Random

import gevent
from end_to_end.peers import until
from redis_server import RedisServer

from . import plan as plans
from .forms import Form
from .links import Link
from .plan import Plan
from .processes import limit_files
from .stores import RedisStore, SentinelStore, Server

SHORT_SECONDS, LONG_SECONDS = 1.0, 20.0
STOP_SECONDS = {plans.STOP: SHORT_SECONDS, plans.LEASE_STOP: 5.0, plans.LONG_STOP: LONG_SECONDS}
FAULTY_LINK_SECONDS = 2.0
FULL_SECONDS = 1.0
FULL_BYTES = 1 << 15
"""Size at which files no longer grow while the disk is full; logs are smaller."""

TRIMMED_EVENTS = 1_000
"""Events that the journal lacks of what a process needs next; among them are some for everybody."""

DOWN_SECONDS = 1.0
"""Maximum time for which a Redis server that was killed stays away."""


def inject(form: Form, plan: Plan, random: Random) -> None:
    """Inject the fault of a plan; return once it has ended, or what was killed runs again."""
    if plan.target in ("redis", "replica", "sentinel"):
        _break_redis(form, plan, random)
    elif ":" in plan.target:
        _break_link(_link(form, plan.target, random), plan.fault)
    else:
        _break_process(form, _process(form, plan.target, random), plan.fault)


def _process(form: Form, target: str, random: Random) -> str:
    """Return the name of the process that a target stands for."""
    if target == "edge":
        return f"edge-{random.randrange(2) + 1}"
    if target == "standby":
        return next(name for name in form.ingests if name != form.active())
    return form.active() or form.ingests[0] if target == "ingest" else target


def _link(form: Form, target: str, random: Random) -> Link:
    end, _, other = target.partition(":")
    return form.links[f"{_process(form, end, random)}:{other}"]


def _break_process(form: Form, name: str, fault: str) -> None:
    owner = form.processes.get(name) or form.processes["parent"]
    pid = form.pid(name)
    match fault:
        case plans.KILL:
            if owner.name == name:
                owner.signal(signal.SIGKILL)
            else:
                os.kill(pid, signal.SIGKILL)
        case plans.TERM:
            os.kill(pid, signal.SIGTERM)
        case plans.TRIM_STOP:
            _stop_until_trimmed(form, pid)
        case plans.STOP | plans.LEASE_STOP | plans.LONG_STOP:
            stop(pid, STOP_SECONDS[fault])
        case plans.FULL:
            fill_disk(pid)
        case _:
            raise AssertionError(fault)


def stop(pid: int, seconds: float) -> None:
    """Stop a process for some time."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
        gevent.sleep(seconds)
        os.kill(pid, signal.SIGCONT)


def _stop_until_trimmed(form: Form, pid: int) -> None:
    """Stop a process until the journal no longer has what follows its present position."""
    os.kill(pid, signal.SIGSTOP)
    begin = form.store.state()
    assert begin

    def is_trimmed() -> bool:
        state = form.store.state()
        return state is not None and state.kept_from > begin.next + TRIMMED_EVENTS

    until(is_trimmed, "the journal to be trimmed")
    os.kill(pid, signal.SIGCONT)


def fill_disk(pid: int) -> None:
    """Let no file of a process grow for some time."""
    limit_files(pid, FULL_BYTES)
    gevent.sleep(FULL_SECONDS)
    limit_files(pid, resource.RLIM_INFINITY)


def _break_link(link: Link, fault: str) -> None:
    match fault:
        case plans.CUT:
            link.cut_in_reply()
            gevent.sleep(SHORT_SECONDS)
            link.cut()
        case plans.HOLD:
            link.hold()
            gevent.sleep(SHORT_SECONDS)
        case plans.DELAY:
            link.delay(0.05)
            gevent.sleep(FAULTY_LINK_SECONDS)
        case plans.SLOW:
            link.throttle(2_000_000)
            gevent.sleep(FAULTY_LINK_SECONDS)
        case _:
            raise AssertionError(fault)
    link.heal()


def _break_redis(form: Form, plan: Plan, random: Random) -> None:
    store = form.store
    assert isinstance(store, RedisStore | SentinelStore)
    server: RedisServer
    if plan.target == "sentinel":
        assert isinstance(store, SentinelStore)
        server = random.choice(store.sentinels)
    elif plan.target == "replica":
        assert isinstance(store, SentinelStore)
        server = store.replica
    else:
        server = store.master
    _break_server(server, plan.fault, random)


def _break_server(server: RedisServer, fault: str, random: Random) -> None:
    match fault:
        case plans.KILL:
            server.kill()
        case plans.POWER:
            assert isinstance(server, Server)
            server.lose_power(random)
        case plans.TERM:
            server.signal(signal.SIGTERM)
        case plans.STOP | plans.LONG_STOP:
            return stop(server.pid, STOP_SECONDS[fault])
        case plans.FULL:
            return fill_disk(server.pid)
        case _:
            raise AssertionError(fault)
    gevent.sleep(DOWN_SECONDS * random.random())
    server.kill()
    server.start()


def kill_active(form: Form) -> None:
    """Kill the ingest that writes."""
    form.processes[form.active()].signal(signal.SIGKILL)


def await_snapshot(form: Form) -> None:
    """Wait until a process makes a snapshot for the ingest that writes."""
    until(lambda: _descendants(form.pid(form.active())), "a snapshot to begin")


def _descendants(pid: int) -> list[str]:
    found: list[str] = []
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += (task / "children").read_text().split()
    return found
