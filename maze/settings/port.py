"""The settings that each port has."""

from dataclasses import dataclass
from typing import Literal

from maze.net.peer import UNIX
from maze.settings.option_types import Network


@dataclass(frozen=True, slots=True, kw_only=True)
class PortSettings:
    """Where a port listens, which addresses it admits, and the files of its TLS."""

    name: Literal["source", "client", "feed"]
    host: str
    """Host name or address, or ``unix:PATH``."""
    number: int
    allow: tuple[Network, ...] = ()
    """Address ranges that the port admits. If there are none, it admits every address."""
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None

    @property
    def path(self) -> str | None:
        """The path of the Unix socket, if the port is one."""
        return unix_path(self.host)

    @property
    def remedy(self) -> str:
        """What to do if the port's address cannot be used."""
        if self.name == "feed":
            return "--feed chooses another address"
        if self.path is not None:
            return f"{self.flag('host')} chooses another address"
        return f"{self.flag('host')} and {self.flag('port')} choose another address"

    def flag(self, end: str) -> str:
        """Return the flag of one of the port's options, such as ``--source-tls-cert``."""
        return f"--{self.name}-{end}"


def unix_path(host: str) -> str | None:
    """Return the path of a host that is a Unix socket; None if it is none."""
    return host.removeprefix(UNIX) if host.startswith(UNIX) else None
