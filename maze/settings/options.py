"""Declare every option once: its flag, variable, TOML key, default, bounds and help.

A field of ``Settings`` named ``source_port`` is the flag ``--source-port``, the environment
variable ``MAZE_SOURCE_PORT`` and the TOML key ``source-port``. The flag overrides the variable, the
variable overrides the file, and the file overrides the default.
"""

from dataclasses import dataclass

from maze.net.redis_url import is_redis_url
from maze.settings.declare import Group
from maze.settings.feed_address import FeedAddress
from maze.settings.option_types import (
    Network,
    PeerRange,
    journal,
    journal_name,
    names,
    peer_ranges,
    port_or_free,
)
from maze.settings.port import PortSettings

PORTS = Group("Ports")
ORDER = Group("Event order and follow graph")
SOURCES = Group("Event sources")
CLIENTS = Group("User clients")
JOURNAL = Group("Journal")
ROLE = Group("Roles")
RESUME = Group("Resume")
ACCESS = Group("TLS and access control")
SHUTDOWN = Group("Shutdown")
ADMIN = Group("Admin port")
LOG = Group("Log and reject file")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The values of all options. Times are in seconds, amounts of memory in bytes."""

    source_host: str = PORTS.host(
        "127.0.0.1", "host name or address to listen on for event sources"
    )
    source_port: int = PORTS.whole(9090, 0, 65535, "port for event sources; 0 picks a free port")
    client_host: str = PORTS.host("127.0.0.1", "host name or address to listen on for user clients")
    client_port: int = PORTS.whole(9099, 0, 65535, "port for user clients; 0 picks a free port")
    backlog: int = PORTS.whole(
        4096, 1, 65535, "maximum connections per port that wait to be accepted"
    )
    peer_timeout: float = PORTS.duration(
        "45s", "3s to 24h", "time after which a source or client that vanished is disconnected"
    )

    first_sequence: int = ORDER.whole(
        1, 0, 2**63 - 1, "sequence number of the first event of a stream"
    )
    reorder_limit: int = ORDER.whole(
        100_000, 1, 10_000_000, "maximum events behind a gap; also the maximum ready to be routed"
    )
    reorder_bytes: int = ORDER.size(
        "64MiB", "1MiB to 1024GiB", "maximum memory of events behind a gap; also of those ready"
    )
    gap_policy: str = ORDER.choice(
        "skip",
        "skip, fail",
        "what to do when too many events wait for a missing event: skip gives up the missing "
        "numbers, fail closes the source",
    )
    gap_warning: float | None = ORDER.duration_or_none(
        "2s", "100ms to 24h", "time after which a missing event is logged; none logs nothing"
    )
    gap_timeout: float | None = ORDER.duration_or_none(
        "none",
        "100ms to 24h",
        "time after which missing numbers are given up, and the events behind them go on; none "
        "waits until too many events wait",
    )
    on_source_disconnect: str = ORDER.choice(
        "auto",
        "auto, reset, keep",
        "what to do when the last source disconnects: reset forgets the sequence and the follow "
        "graph, keep keeps both; auto is keep with a journal, else reset",
    )
    max_users: int = ORDER.whole(1_000_000, 1, 10**9, "maximum users who follow at least one user")
    max_follows: int = ORDER.whole(10_000_000, 1, 10**11, "maximum follows of all users together")
    max_follows_per_user: int = ORDER.whole(50_000, 1, 10**11, "maximum follows per user")

    max_sources: int = SOURCES.whole(
        1, 1, 100, "maximum event sources at a time; all feed the same sequence"
    )
    line_limit: int = SOURCES.size("4KiB", "64B to 1MiB", "maximum length of an event line")

    max_clients: int = CLIENTS.whole(
        10_000, 1, 1_000_000, "maximum client connections; fewer if open files are limited"
    )
    max_clients_per_address: int = CLIENTS.whole(
        10_000, 1, 1_000_000, "maximum client connections from one address"
    )
    max_clients_per_user: int = CLIENTS.whole(
        1_000, 1, 1_000_000, "maximum client connections per user"
    )
    max_handshakes: int = CLIENTS.whole(
        2_000, 1, 1_000_000, "maximum client connections that have not sent their user id yet"
    )
    handshake_timeout: float = CLIENTS.duration(
        "5s",
        "10ms to 1h",
        "time for a client to send its user id, or a source or an edge to complete TLS",
    )
    handshake_limit: int = CLIENTS.size("64B", "19B to 4KiB", "maximum length of an id line")
    position_interval: float = CLIENTS.duration(
        "10s", "10ms to 24h", "idle time after which a client is sent its position, if it asked"
    )
    client_buffer: int = CLIENTS.size(
        "1MiB", "1KiB to 16GiB", "maximum bytes queued for one client"
    )
    total_buffer: int = CLIENTS.size(
        "256MiB", "1KiB to 1024GiB", "maximum bytes queued for all clients together"
    )
    slow_client: str = CLIENTS.choice(
        "wait", "wait, disconnect", "when a client's buffer is full: wait for it, or disconnect it"
    )
    stall_timeout: float = CLIENTS.duration(
        "10s", "10ms to 24h", "time after which a client that takes nothing is disconnected"
    )
    hold_timeout: float = CLIENTS.duration(
        "5s", "100ms to 24h", "time in any minute that a client may hold up others; 1m: no limit"
    )

    journal: str | None = JOURNAL.option(
        "none",
        journal,
        "file, or Redis server, to which all events are written before they are delivered; none "
        "keeps no journal",
        bounds="none, a file path, or a URL (redis, rediss or unix)",
        value="PLACE",
    )
    journal_sync: str = JOURNAL.choice(
        "full",
        "full, normal, off",
        "full survives a loss of power; normal makes fewer fsyncs and survives only the end of the "
        "process; off makes none, and a loss of power may damage the file",
    )
    journal_name: str = JOURNAL.option(
        "maze",
        journal_name,
        "name of the journal in Redis; its keys begin with it",
        bounds="letters, digits, - and _",
        value="NAME",
    )
    journal_sentinels: tuple[str, ...] = JOURNAL.option(
        "none",
        names,
        "Sentinels that know where the Redis server is; the URL then names the master",
        bounds="none, or HOST:PORT separated by commas",
        value="HOSTS",
    )
    journal_timeout: float = JOURNAL.duration(
        "5s", "100ms to 1h", "time within which Redis must answer"
    )
    journal_tls_ca: str | None = JOURNAL.file(
        "certificate authority of the Redis server, in PEM, for a rediss URL"
    )
    journal_tls_cert: str | None = JOURNAL.file("client certificate for the Redis server, in PEM")
    journal_tls_key: str | None = JOURNAL.file(
        "private key of the certificate in journal-tls-cert, in PEM"
    )
    lease: float = JOURNAL.duration(
        "3s",
        "500ms to 1h",
        "time after which another process may take over a journal in Redis if this one is gone",
    )
    tail_bytes: int = JOURNAL.size(
        "64MiB", "1MiB to 1024GiB", "maximum memory of events that Redis may still lose"
    )
    journal_retain: float = JOURNAL.duration(
        "1h", "0s to 8760h", "age up to which events stay in the journal for clients that resume"
    )
    journal_retain_bytes: int = JOURNAL.size(
        "1GiB", "1MiB to 1024GiB", "size of the journal beyond which the oldest events are removed"
    )
    snapshot_events: int = JOURNAL.whole(
        10_000_000, 1, 10**12, "events after which the follow graph is saved in the journal"
    )
    snapshot_interval: float = JOURNAL.duration(
        "1h", "1s to 8760h", "time after which the follow graph is saved in the journal"
    )
    source_acks: bool = JOURNAL.switch(
        "off", "tell sources up to which sequence number events are durable"
    )

    role: str = ROLE.choice(
        "all",
        "all, ingest, edge",
        "all does everything in one process; an ingest takes what sources send and serves its "
        "journal to edges, and edges serve the clients",
    )
    edges: int = ROLE.whole(
        0, 0, 64, "edges to be started as processes of their own, with an ingest; 0 starts none"
    )
    feed: FeedAddress | None = ROLE.address(  # noqa: RUF009, it returns a field
        "where the ingest serves its journal to edges"
    )
    feed_token: str = ROLE.token(
        "secret that edges must present; required unless the feed is on a loopback address or a "
        "Unix socket"
    )

    feed_tls_cert: str | None = ROLE.file(
        "certificate of this end of the feed, in PEM; an ingest that has one serves the feed over "
        "TLS, and an edge presents it"
    )
    feed_tls_key: str | None = ROLE.file("private key of the certificate in feed-tls-cert, in PEM")
    feed_tls_ca: str | None = ROLE.file(
        "certificate authority of the other end of the feed, in PEM; an edge that has one follows "
        "over TLS, and an ingest requires a certificate from each edge"
    )

    resume_events: int = RESUME.whole(
        100_000, 0, 10**9, "maximum events kept in memory for clients that resume; 0 keeps none"
    )
    resume_bytes: int = RESUME.size(
        "16MiB",
        "1KiB to 1024GiB",
        "maximum memory of recent events kept for clients that resume; events read from the "
        "journal for them may take as much again",
    )

    source_tls_cert: str | None = ACCESS.file(
        "server certificate for the source port, in PEM; enables TLS on that port"
    )
    source_tls_key: str | None = ACCESS.file(
        "private key of the certificate in source-tls-cert, in PEM"
    )
    source_tls_ca: str | None = ACCESS.file(
        "certificate authority for sources, in PEM; each source must present a certificate that "
        "the authority signed and that names it as a source"
    )
    source_names: tuple[str, ...] = ACCESS.option(
        "none",
        names,
        "common names accepted in a source's certificate besides the URI maze:source; any "
        "accepts every certificate that the authority in source-tls-ca signed",
        bounds="none, any, or names separated by commas",
        value="NAMES",
    )
    client_tls_cert: str | None = ACCESS.file(
        "server certificate for the client port, in PEM; enables TLS on that port"
    )
    client_tls_key: str | None = ACCESS.file(
        "private key of the certificate in client-tls-cert, in PEM"
    )
    client_tls_ca: str | None = ACCESS.file(
        "certificate authority for clients, in PEM; each client must present a certificate that "
        "the authority signed"
    )
    client_identity: str = ACCESS.choice(
        "none", "none, certificate", "proof of a client's user id: none, or a certificate naming it"
    )
    allow_source: tuple[Network, ...] = ACCESS.ranges("addresses from which sources may connect")
    allow_client: tuple[Network, ...] = ACCESS.ranges("addresses from which clients may connect")
    proxy_from: tuple[PeerRange, ...] = ACCESS.option(
        "none",
        peer_ranges,
        "addresses of proxies, whose connections to the source and client ports must begin with a "
        "PROXY header; its address then counts as the peer's. unix stands for proxies on a Unix "
        "socket",
        bounds="none, or address ranges and unix separated by commas",
        value="RANGES",
    )

    drain_timeout: float = SHUTDOWN.duration(
        "8s",
        "0s to 1h",
        "maximum time of a shutdown, in which clients are sent what is queued for them; a value "
        "below 2s shortens only the time for clients",
    )

    admin_host: str = ADMIN.host("127.0.0.1", "host name or address to listen on for operators")
    admin_port: int = ADMIN.option(
        "9095",
        port_or_free,
        "port for the live page, API and metrics; 0 disables it, free picks a free port",
        bounds="0 to 65535 or free",
        value="PORT",
    )
    admin_token: str = ADMIN.token(
        "secret that operators must present; required unless admin-host is a loopback address or a "
        "Unix socket"
    )

    log_level: str = LOG.choice(
        "info",
        "debug, info, warning, error",
        "minimum level of log lines; also read from the variable LOG_LEVEL",
    )
    log_format: str = LOG.choice("text", "text, json", "format of log lines")
    rejects: str | None = LOG.file("file to which all rejects are appended, as JSON lines")
    rejects_undelivered: bool = LOG.switch(
        "off",
        "also record in the reject file the private messages and follows whose recipient is not "
        "connected",
    )
    rejects_size: int = LOG.size(
        "64MiB", "1MiB to 1024GiB", "size at which the reject file is renamed and a new one started"
    )
    rejects_files: int = LOG.whole(5, 2, 1000, "maximum reject files kept, the newest included")

    @property
    def keeps_stream(self) -> bool:
        """Whether sequence and follow graph are kept when the last source disconnects."""
        if self.on_source_disconnect == "auto":
            return self.journal is not None
        return self.on_source_disconnect == "keep"

    @property
    def is_in_redis(self) -> bool:
        """Whether the journal is in Redis."""
        return self.journal is not None and is_redis_url(self.journal)

    @property
    def source(self) -> PortSettings:
        """The settings of the source port."""
        return PortSettings(
            name="source",
            host=self.source_host,
            number=self.source_port,
            allow=self.allow_source,
            tls_cert=self.source_tls_cert,
            tls_key=self.source_tls_key,
            tls_ca=self.source_tls_ca,
        )

    @property
    def feed_port(self) -> PortSettings:
        """The settings of the feed: in an ingest, those of the port on which it serves."""
        assert self.feed
        return PortSettings(
            name="feed",
            host=self.feed.host,
            number=self.feed.port,
            tls_cert=self.feed_tls_cert,
            tls_key=self.feed_tls_key,
            tls_ca=self.feed_tls_ca,
        )

    @property
    def client(self) -> PortSettings:
        """The settings of the client port."""
        return PortSettings(
            name="client",
            host=self.client_host,
            number=self.client_port,
            allow=self.allow_client,
            tls_cert=self.client_tls_cert,
            tls_key=self.client_tls_key,
            tls_ca=self.client_tls_ca,
        )


def flag_of(name: str) -> str:
    """Return the flag of the option with that field name."""
    return "--" + key_of(name)


def variable_of(name: str) -> str:
    """Return the environment variable of the option with that field name."""
    return "MAZE_" + name.upper()


def key_of(name: str) -> str:
    """Return the TOML key of the option with that field name."""
    return name.replace("_", "-")
