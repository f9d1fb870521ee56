"""Where a journal is kept, as the command line names it: a file, or a Redis server."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Protocol

from maze.core import Position
from maze.journal.check import Checked
from maze.journal.figures import Overview, Statistics
from maze.journal.file import FORMAT
from maze.journal.journal import JournalReader
from maze.journal.reader import SQLiteReader
from maze.journal.redis_address import RedisAddress
from maze.net.redis_url import check_place, is_redis_url

if TYPE_CHECKING:
    from maze.journal.redis_reader import RedisReader

PLACE_VARIABLE = "MAZE_SNAPSHOT_OF"
"""Variable by which a child process learns the place of a journal in Redis; see ``encode``."""


class Reader(JournalReader, Checked, Protocol):
    """Reads a journal, wherever it is kept."""

    def epoch_begin(self) -> Position:
        """Return where the kept batches of the present epoch begin."""

    def statistics(self) -> Statistics:
        """Return figures."""

    def overview(self) -> Overview:
        """Return further figures."""


class FilePlace:
    """A journal's file."""

    format = FORMAT

    def __init__(self, path: str) -> None:
        self.path = path

    def reader(self) -> Reader:
        """Open the journal to read it."""
        return SQLiteReader(self.path)

    def size(self, used_bytes: int) -> str:
        """Describe the journal's size."""
        return f"{used_bytes:,} in use, {os.path.getsize(self.path):,} in the file"


class RedisPlace:
    """A journal in Redis."""

    format = 1

    def __init__(self, address: RedisAddress, name: str = "maze") -> None:
        self.address = address
        self.name = name

    def encode(self) -> str:
        """Return the place as a text, which has the password."""
        return json.dumps([asdict(self.address), self.name])

    @classmethod
    def decode(cls, text: str) -> RedisPlace:
        """Return the place of a text."""
        fields, name = json.loads(text)
        if not isinstance(fields["endpoint"], str):
            fields["endpoint"] = tuple(fields["endpoint"])
        fields["sentinels"] = tuple(map(tuple, fields["sentinels"]))
        return cls(RedisAddress(**fields), name)

    def reader(self, timeout: float | None = None) -> RedisReader:
        """Open the journal to read it; Redis may take ``timeout`` seconds to answer."""
        from maze.journal.redis_reader import TIMEOUT, RedisReader  # noqa: PLC0415, loads slowly

        return RedisReader(self.address, self.name, timeout=timeout or TIMEOUT)

    def size(self, used_bytes: int) -> str:
        """Describe the journal's size."""
        return f"about {used_bytes:,} of Redis' memory"


Place = FilePlace | RedisPlace


def place_of(
    text: str,
    name: str,
    *,
    password: str | None = None,
    sentinels: str = "",
    ca: str | None = None,
    certificate: str | None = None,
    key: str | None = None,
) -> Place:
    """Return the place of a path, or of a Redis URL, with a password if it has none.

    Raise ValueError.
    """
    if not is_redis_url(text):
        check_place(text)
        return FilePlace(text)
    address = RedisAddress.parse(text, sentinels=sentinels, ca=ca, certificate=certificate, key=key)
    if password and not address.password:
        address = replace(address, password=password)
    return RedisPlace(address, name)
