"""The forms of the service: which processes there are, and how they are connected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

from end_to_end.peers import Address, until
from redis_server import free_port

from .links import Link
from .processes import Process
from .stores import FileStore, RedisStore, SentinelStore, Store

OPTIONS = [
    *("--source-host", "127.0.0.1", "--client-host", "127.0.0.1"),
    *("--position-interval", "500ms", "--stall-timeout", "60s", "--drain-timeout", "10s"),
]
"""Options of every server. They keep an edge from being dropped because the machine is slow."""

LEASE = "2s"
"""Long enough that an ingest on a busy machine keeps its lease."""

JOURNAL_TIMEOUT = "2s"


class Form:
    """A running service."""

    store: Store

    def __init__(
        self,
        folder: Path,
        ingest_options: Sequence[str],
        program_of: Callable[[str], Sequence[str]],
    ) -> None:
        """``ingest_options`` are those of the journal; ``program_of(name)`` is run."""
        self.folder = folder
        self.processes: dict[str, Process] = {}
        self.links: dict[str, Link] = {}
        self.ingests: list[str] = []
        self.edges: list[str] = []
        self.source_addresses: list[Address] = []
        self.client_addresses: list[Address] = []
        self._ingest_options = [*ingest_options, "--source-acks", "on"]
        self._program_of = program_of
        self._stack = ExitStack()
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def _begin(self) -> None:
        """Start everything, and wait until it serves."""
        raise NotImplementedError

    def _process(self, name: str, *options: str) -> Process:
        process = Process(name, self.folder, self._program_of(name), [*OPTIONS, *options])
        self.processes[name] = process
        self._stack.callback(process.kill)
        return process.start()

    def _link(self, name: str, target: Address) -> Address:
        link = self.links[name] = Link(name, target)
        self._stack.callback(link.close)
        return link.address

    def _edge(self, number: int, *options: str) -> Process:
        port = free_port()
        self.client_addresses.append(("127.0.0.1", port))
        self.edges.append(f"edge-{number}")
        return self._process(self.edges[-1], "--role", "edge", "--client-port", str(port), *options)

    def _ingest(self, name: str, *options: str) -> Process:
        port = free_port()
        self.source_addresses.append(("127.0.0.1", port))
        self.ingests.append(name)
        own = ("--role", "ingest", "--source-port", str(port))
        return self._process(name, *own, *options, *self._ingest_options)

    def pid(self, name: str) -> int:
        """Return the id of the process with a name."""
        return self.processes[name].pid

    def active(self) -> str:
        """Return the name of the ingest that writes."""
        return next((name for name in self.ingests if self.processes[name].is_ready), "")

    def is_whole(self) -> bool:
        """Whether everything that should serve does."""
        edges = all(self.processes[name].is_ready for name in self.edges)
        runs = all(process.runs for process in self.processes.values())
        return edges and runs and bool(self.active())

    def stop(self) -> dict[str, int]:
        """Stop all processes, standbys first and edges last; return the status of each."""
        active = self.active()
        ranks = dict.fromkeys(self.ingests, 0) | {active: 1} | dict.fromkeys(self.edges, 2)
        order = sorted(self.processes, key=lambda name: ranks.get(name, 0))
        return {name: self.processes[name].stop() for name in order}

    def close(self) -> None:
        """End everything at once."""
        self._stack.close()


class Parent(Form):
    """A parent with an ingest, two edges, and a journal in a file."""

    def _begin(self) -> None:
        self.store = FileStore(self.folder / "journal")
        source, client = free_port(), free_port()
        self.source_addresses = [("127.0.0.1", source)]
        self.client_addresses = [("127.0.0.1", client)]
        ports = ("--source-port", str(source), "--client-port", str(client))
        journal = ("--edges", "2", "--journal", str(self.store.path))
        self._process("parent", *ports, *journal, *self._ingest_options).await_ready()

    def pid(self, name: str) -> int:
        parent = self.processes["parent"]
        return parent.pid if name == "parent" else parent.children()[name]

    def active(self) -> str:
        return "ingest"

    def is_whole(self) -> bool:
        parent = self.processes["parent"]
        return parent.is_ready and len(parent.children()) == 3


class Feed(Form):
    """An ingest with a journal in a file, and two edges that follow its feed over links."""

    def _begin(self) -> None:
        self.store = FileStore(self.folder / "journal")
        feed = ("127.0.0.1", free_port())
        options = ("--feed", f"127.0.0.1:{feed[1]}", "--journal", str(self.store.path))
        self._ingest("ingest", *options).await_ready()
        for number in (1, 2):
            _, port = self._link(f"edge-{number}:ingest", feed)
            self._edge(number, "--feed", f"127.0.0.1:{port}")
        until(self.is_whole, "the edges to be ready")


class Redis(Form):
    """An ingest, a standby and two edges, each with a link to a Redis server."""

    def _begin(self) -> None:
        self.store = self._store()
        self._stack.callback(self.store.close)
        for name in ("ingest", "standby"):
            self._ingest(name, *self._journal(name), "--lease", LEASE)
            until(lambda: bool(self.active()), "an ingest to have the lease")
        for number in (1, 2):
            self._edge(number, *self._journal(f"edge-{number}"))
        until(self.is_whole, "the edges to be ready")

    def _store(self) -> Store:
        return RedisStore(self.folder)

    def _journal(self, name: str) -> tuple[str, ...]:
        assert isinstance(self.store, RedisStore)
        _, port = self._link(f"{name}:redis", ("127.0.0.1", self.store.port))
        return (
            *("--journal", f"redis://127.0.0.1:{port}"),
            *("--journal-timeout", JOURNAL_TIMEOUT),
        )


class Sentinel(Redis):
    """As ``Redis``, with a replica and three Sentinels; there are no links."""

    def _store(self) -> Store:
        return SentinelStore(self.folder)

    def _journal(self, name: str) -> tuple[str, ...]:
        assert isinstance(self.store, SentinelStore)
        return (
            *("--journal", "redis://maze", "--journal-sentinels", self.store.sentinels_option),
            *("--journal-timeout", JOURNAL_TIMEOUT),
        )


FORMS: dict[str, Callable[..., Form]] = {
    "parent": Parent,
    "feed": Feed,
    "redis": Redis,
    "sentinel": Sentinel,
}
