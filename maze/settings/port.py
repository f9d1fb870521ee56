"""The settings that the source port and the client port each have."""

from dataclasses import dataclass
from typing import Literal

from maze.settings.option_types import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSettings:
    """Where a port listens, which addresses it admits, and the files of its TLS."""

    name: Literal["source", "client"]
    host: str
    number: int
    allow: tuple[Network, ...]
    """Address ranges that the port admits. If there are none, it admits every address."""
    tls_cert: str | None
    tls_key: str | None
    tls_ca: str | None

    def flag(self, end: str) -> str:
        """Return the flag of one of the port's options, such as ``--source-tls-cert``."""
        return f"--{self.name}-{end}"
