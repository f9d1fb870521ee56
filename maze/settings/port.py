"""The settings that the source port and the client port each have."""

from dataclasses import dataclass
from typing import Literal

from maze.settings.option_types import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSettings:
    """Where a port listens, whom it lets in, and the files of its TLS, if it speaks TLS."""

    name: Literal["source", "client"]
    host: str
    number: int
    allow: tuple[Network, ...]
    """Address ranges let in; empty if every address is."""
    tls_cert: str | None
    tls_key: str | None
    tls_ca: str | None

    def flag(self, end: str) -> str:
        """Return the flag of one of the port's options: ``--source-tls-cert`` of ``tls-cert``."""
        return f"--{self.name}-{end}"
