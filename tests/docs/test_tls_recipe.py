"""The lines of docs/tls.md that set up TLS, tried one by one, with ports of the system's choice."""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import pytest
from end_to_end.commands import Command
from end_to_end.running import ROOT, Child

pytestmark = pytest.mark.realtime

RECIPE = (ROOT / "docs" / "tls.md").read_text(encoding="utf-8")


def _blocks() -> list[str]:
    section = RECIPE.partition("<!-- tls: begin")[2].partition("<!-- tls: end")[0]
    return re.findall(r"```sh\n(.*?)```", section, re.DOTALL)


def _shell(script: str, folder: Path) -> Command:
    return Command(["sh", "-euc", script], folder)


@pytest.mark.skipif(not shutil.which("openssl"), reason="there is no openssl command")
@pytest.mark.parametrize("user", [7, 8])
def test_the_lines_that_set_up_tls(tmp_path: Path, user: int) -> None:
    authority, server, peers = _blocks()
    making = _shell(authority, tmp_path)
    assert making.status() == 0
    command = [
        str(tmp_path / word) if (tmp_path / word).exists() else word for word in shlex.split(server)
    ]
    assert command[:3] == ["python", "-m", "maze.serve"]
    with Child("--log-level", "debug", *command[3:]).ready() as child:
        ports = {"9090": child.source_address[1], "9099": child.client_address[1]}
        for port, chosen in ports.items():
            peers = peers.replace(f"localhost:{port}", f"127.0.0.1:{chosen}")
        client_line, source_line = peers.splitlines()
        client = _shell(client_line.replace("echo 7", f"echo {user}"), tmp_path)
        child.await_logged("session_opened" if user == 7 else "handshake_rejected")
        source = _shell(source_line, tmp_path)
        assert source.status() == 0
        child.await_logged("source_disconnected")
        assert not child.logged("source_cut_off")
        assert child.logged("source_disconnected")[0]["routed_events"] == 2
        if user == 7:
            client.expect(b"1|P|3|7\n2|B\n")
        else:
            assert child.logged("handshake_rejected")[0]["reason"] == "other_user"
        user_line = source_line.replace("source.pem", "user7.pem").replace(
            "source.key", "user7.key"
        )
        assert user_line != source_line
        rejected = len(child.logged("handshake_rejected"))
        impostor = _shell(user_line, tmp_path)
        child.await_logged("handshake_rejected", rejected + 1)
        assert child.logged("handshake_rejected")[-1]["reason"] == "not_a_source"
        client.interrupt()
        assert client.read_all() == b"", "nothing more is shown"
    for each in (making, client, source, impostor):
        each.close()
