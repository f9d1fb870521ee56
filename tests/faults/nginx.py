"""The nginx of ``deploy/nginx.conf``, in front of the admin port of a test."""

from __future__ import annotations

import re
from pathlib import Path

from end_to_end.running import ROOT
from redis_server import free_port

from .front import Front

CONFIGURATION = ROOT / "deploy" / "nginx.conf"
TEMPORARY = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
"""What nginx stores on disk meanwhile; by default, only root can write there."""


class Nginx(Front):
    """A running nginx, with all its files in ``folder``.

    With ``passwords``, the lines of a password file, nginx asks for these instead of the token.
    """

    def __init__(self, folder: Path, admin_port: int, *, passwords: str = "") -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/maze/"
        self._folder = folder
        self._passwords = passwords
        (folder / "maze.conf").write_text(self._server(admin_port))
        (folder / "nginx.conf").write_text(self._main())
        arguments = ("-p", str(folder), "-c", "nginx.conf", "-e", "stderr")
        super().__init__(folder, "nginx", arguments, self.port)

    def _main(self) -> str:
        paths = "".join(f"{name}_temp_path {name};\n" for name in TEMPORARY)
        return (
            "daemon off;\nmaster_process off;\npid nginx.pid;\nerror_log stderr;\n"
            f"events {{}}\nhttp {{\naccess_log off;\n{paths}include maze.conf;\n}}\n"
        )

    def _server(self, admin_port: int) -> str:
        text = CONFIGURATION.read_text(encoding="utf-8")
        text = text.replace("listen 8095", f"listen 127.0.0.1:{self.port}")
        text = text.replace("127.0.0.1:9095", f"127.0.0.1:{admin_port}")
        if self._passwords:
            text = re.sub("# (auth_basic|proxy_set_header Authorization)", r"\1", text)
            file = self._folder / "passwords"
            file.write_text(self._passwords)
            text = text.replace("/etc/nginx/follower-maze.htpasswd", str(file))
        return text
