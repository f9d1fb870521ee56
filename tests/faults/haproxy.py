"""The HAProxy of ``deploy/haproxy.cfg``, in front of servers of a test."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple, Self

from end_to_end.running import ROOT
from redis_server import free_port

from .front import Front

CONFIGURATION = ROOT / "deploy" / "haproxy.cfg"


class Ports(NamedTuple):
    """The ports of a server behind HAProxy."""

    own: int
    """Source port of an ingest, client port of an edge."""
    admin: int

    @classmethod
    def free(cls) -> Self:
        """Return ports that nobody uses now."""
        return cls(free_port(), free_port())


class HAProxy(Front):
    """A running HAProxy; ``servers`` has the ports of each server that the file names.

    It checks twenty times as often as in service, and the servers that are not given are left out.
    A server that does not answer a check within ``check_timeout`` hangs. ``server_option`` is added
    to each server.
    """

    def __init__(
        self,
        folder: Path,
        servers: Mapping[str, Ports],
        *,
        check_timeout: str = "2s",
        server_option: str = "",
    ) -> None:
        self._check_timeout = check_timeout
        self._server_option = server_option
        self.source_port, self.client_port = free_port(), free_port()
        path = folder / "haproxy.cfg"
        path.write_text(self._configuration(servers))
        super().__init__(folder, "haproxy", ("-db", "-f", str(path)), self.client_port)

    def _configuration(self, servers: Mapping[str, Ports]) -> str:
        def server(found: re.Match[str]) -> str:
            ports = servers.get(found[2])
            if not ports:
                return ""
            return f"{found[1]}127.0.0.1:{ports.own} port {ports.admin} {self._server_option}\n"

        text = CONFIGURATION.read_text(encoding="utf-8")
        text = re.sub(r"( +server (\S+) )\S+ port \d+\n", server, text)
        text = text.replace("inter 1s", "inter 50ms")
        text = text.replace("timeout check 2s", f"timeout check {self._check_timeout}")
        text = text.replace("bind :9099", f"bind 127.0.0.1:{self.client_port}")
        return text.replace("bind :9090", f"bind 127.0.0.1:{self.source_port}")
