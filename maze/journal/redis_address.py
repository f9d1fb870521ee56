"""Where a Redis journal is: one server, or the master that Sentinels name."""

from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from maze.net.redis_url import SCHEMES

PORT = 6379
"""Port of a Redis server if the address has none."""

SENTINEL_PORT = 26379
"""Port of a Sentinel if its address has none."""

Endpoint = tuple[str, int] | str
"""Host and port, or the path of a Unix socket."""


@dataclass(frozen=True)
class RedisAddress:
    """The address of one Redis server, or of a master and the Sentinels that know where it is."""

    endpoint: Endpoint
    """The server; not used if there are Sentinels."""
    database: int = 0
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: str | None = None
    """File of the certificates that sign the server's; the system's if None."""
    certificate: str | None = None
    key: str | None = None
    """Files of the client's certificate and its key, if the server asks for one."""
    sentinels: tuple[tuple[str, int], ...] = ()
    master: str = ""
    """Name by which the Sentinels know the master."""

    @classmethod
    def parse(
        cls,
        url: str,
        *,
        sentinels: str = "",
        ca: str | None = None,
        certificate: str | None = None,
        key: str | None = None,
    ) -> "RedisAddress":
        """Return the address of a URL.

        ``redis://[[user]:password@]host[:port][/database]``, ``rediss://`` likewise (with TLS), or
        ``unix://[[user]:password@]/path[?db=database]``. With ``sentinels``
        (``host[:port],...``), the URL has the name of the master in place of host and port.
        Raise ValueError with a message that does not contain the password.
        """
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise ValueError(
                "the host or port of the Redis URL is not valid (in a password, write / as %2F, "
                "? as %3F, # as %23)"
            ) from None
        _check(parts, bool(sentinels), is_tls_set=bool(ca or certificate or key))
        if key and not certificate:
            raise ValueError("a key without a certificate")
        host = parts.hostname or ""
        is_unix = parts.scheme == "unix"
        return cls(
            endpoint=unquote(parts.path) if is_unix else (host, port or PORT),
            database=_database(parts),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=parts.scheme == "rediss",
            ca=ca,
            certificate=certificate,
            key=key,
            sentinels=tuple(_host_and_port(each) for each in sentinels.split(",") if each),
            # urlsplit() makes a host lower case, and the name of a master has a case.
            master=unquote(parts.netloc.rpartition("@")[2]) if sentinels else "",
        )

    def __str__(self) -> str:
        """Return the address without user and password."""
        if isinstance(self.endpoint, str):
            database = f"?db={self.database}" if self.database else ""
            return f"unix://{self.endpoint}{database}"
        place = self.master if self.sentinels else shown(self.endpoint)
        database = f"/{self.database}" if self.database else ""
        return f"{'rediss' if self.tls else 'redis'}://{place}{database}"


def shown(endpoint: Endpoint) -> str:
    """Return an endpoint as it is written."""
    if isinstance(endpoint, str):
        return endpoint
    host, port = endpoint
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _check(parts: SplitResult, has_sentinels: bool, *, is_tls_set: bool) -> None:
    """Raise ValueError unless the parts of a URL fit together."""
    if parts.scheme not in SCHEMES:
        raise ValueError("a Redis URL begins with redis://, rediss:// or unix://")
    if is_tls_set and parts.scheme != "rediss":
        raise ValueError("certificates need a rediss:// URL")
    if parts.fragment or (parts.query and parts.scheme != "unix"):
        raise ValueError("a Redis URL has no ? or # (in a password, write %3F or %23)")
    if parts.scheme == "unix":
        if parts.hostname or parts.port is not None or not parts.path:
            raise ValueError("the URL of a Unix socket is unix:///path")
        if has_sentinels:
            raise ValueError("Sentinels need a redis:// or rediss:// URL")
    elif not parts.hostname:
        raise ValueError("the Redis URL has no host")
    elif has_sentinels and parts.port is not None:
        raise ValueError("with Sentinels, the Redis URL has the name of the master, and no port")


def _database(parts: SplitResult) -> int:
    text = parts.path.strip("/")
    if parts.scheme == "unix":
        values = parse_qs(parts.query, keep_blank_values=True)
        if set(values) - {"db"}:
            raise ValueError("the URL of a Unix socket has no parameter except db")
        text = values.get("db", ["0"])[-1]
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ValueError("the database in a Redis URL is a number")
    return int(text)


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        parts = urlsplit(f"//{text.strip()}")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.path or "@" in text:
        raise ValueError(f"{text.strip()!r} is not the host[:port] of a Sentinel")
    return host, port or SENTINEL_PORT
