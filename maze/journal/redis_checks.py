"""What a Redis server has to be so that a journal is safe there.

All of it is in the answer to INFO, so that a user without CONFIG can be served.
"""

from maze.journal.journal import JournalServerError
from maze.journal.redis_connection import RedisClient
from maze.journal.tail import SAFE_SECONDS

MIN_VERSION = (7, 0)
"""First version that does not log a script with one write as a transaction; see ``redis_scripts``.
Valkey reports a version of Redis, too."""

FSYNC_SECONDS = {b"always": 0.0, b"everysec": SAFE_SECONDS, b"no": 60.0}
"""Time until an append is on the disk, by ``appendfsync``. Without fsync, Linux takes half a minute
at most."""

MAX_LAG_SECONDS = 10
"""Redis' default for ``min-replicas-max-lag``."""


def info(client: RedisClient) -> dict[str, str]:
    """Return the server's answer to INFO."""
    lines = client.call("INFO").decode("utf-8", "replace").splitlines()
    fields = (line.partition(":") for line in lines if not line.startswith("#"))
    return {name: value for name, _, value in fields}


def check_server(client: RedisClient) -> None:
    """Raise JournalServerError if a journal would lose batches on this server."""
    fields = info(client)
    version = fields.get("redis_version", "0")
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
    if numbers < MIN_VERSION:
        raise JournalServerError(f"{client.address} is Redis {version}: 7.0 or later is needed")
    policy = fields.get("maxmemory_policy", "noeviction")
    if fields.get("maxmemory", "0") != "0" and policy != "noeviction":
        raise JournalServerError(
            f"{client.address} removes keys when its memory is full (maxmemory-policy {policy}): "
            "set maxmemory-policy to noeviction"
        )
    if fields.get("aof_enabled") != "1":
        raise JournalServerError(
            f"{client.address} keeps nothing on its disk: set appendonly to yes"
        )


def durability(client: RedisClient) -> dict[bytes, bytes]:
    """Return the settings that ``safe_seconds`` needs, which INFO does not tell.

    Without the permission for CONFIG GET, return none: Redis' defaults are assumed.
    """
    try:
        found = client.call("CONFIG", "GET", "appendfsync", "min-replicas-max-lag")
    except JournalServerError:
        return {}
    return dict(zip(found[::2], found[1::2], strict=True))


def safe_seconds(client: RedisClient, settings: dict[bytes, bytes]) -> float:
    """Return for how long an append may still be lost; see ``Tail``."""
    fields = info(client)
    seconds = FSYNC_SECONDS[settings.get(b"appendfsync", b"everysec")]
    replicas = int(fields.get("connected_slaves", "0"))
    if replicas or client.address.sentinels:  # a replica may become the master, and lack some
        seconds = max(SAFE_SECONDS, seconds)
    if "min_slaves_good_slaves" in fields:  # the master may go on for so long without a replica
        lag = int(settings.get(b"min-replicas-max-lag", MAX_LAG_SECONDS))
        seconds = max(lag + SAFE_SECONDS, seconds)
    return seconds
