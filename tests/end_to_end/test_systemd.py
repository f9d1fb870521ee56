"""The unit file, and the notifications that systemd receives."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from configparser import RawConfigParser
from dataclasses import fields
from pathlib import Path

import pytest

from maze.settings.option_types import duration
from maze.settings.options import Settings

from .peers import until
from .running import ROOT, Child
from .supervisor import Supervisor

pytestmark = pytest.mark.realtime

UNIT = ROOT / "deploy" / "follower-maze.service"
ROLE = ROOT / "deploy" / "follower-maze@.service.d" / "role.conf"
"""Makes the unit a template for ingests and edges."""

SOCKETS = {name: ROOT / "deploy" / f"follower-maze-{name}.socket" for name in ("source", "client")}
"""Open the ports in place of the service, by port."""

WITH_SOCKETS = ROOT / "deploy" / "follower-maze.service.d" / "sockets.conf"

INSTALLED = "/opt/follower-maze/.venv/bin/python"


def test_ready_watchdog_and_stopping_are_notified(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        environment = supervisor.environment(watchdog_seconds=0.2)
        with Child(environment=environment) as child:
            supervisor.expect("READY=1")
            child.ready()  # the log has the line before systemd is notified
            status = supervisor.status
            assert f"source on 127.0.0.1 port {child.source_address[1]}" in status
            assert f"client on 127.0.0.1 port {child.client_address[1]}" in status
            for _ in range(3):
                supervisor.expect("WATCHDOG=1")
            child.client(1), child.source()
            child.signal(signal.SIGTERM)
            supervisor.expect("STOPPING=1", skipping="WATCHDOG=1")
            assert child.status() == 0


def test_a_server_that_cannot_start_is_never_ready(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor, Child().ready() as first:
        ports = (first.source_address[1], 0)
        with Child(ports=ports, environment=supervisor.environment()) as second:
            assert second.status() == 1
        assert supervisor.received() == []


def unit(path: Path = UNIT) -> RawConfigParser:
    parser = RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(path, encoding="utf-8")
    return parser


def test_the_unit_file_fits_the_program() -> None:
    service = unit()["Service"]
    assert service["Type"] == "notify"
    assert service["ExecStart"].startswith(f"{INSTALLED} -m maze.serve --config ")
    assert service["RestartPreventExitStatus"] == "2"  # wrong settings
    (drain,) = [field for field in fields(Settings) if field.name == "drain_timeout"]
    seconds = duration("0s", "1h")(drain.metadata["default"])
    assert int(service["TimeoutStopSec"]) > seconds + 5
    assert int(service["WatchdogSec"]) >= 10


def test_the_installation_steps_create_what_the_unit_file_needs() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    steps = text.partition("## Under systemd")[2].partition("\n## ")[0]
    service = unit()["Service"]
    python, *_, settings = service["ExecStart"].split()
    assert python == INSTALLED
    assert f"-m venv {python.removesuffix('/bin/python')} " in steps
    assert f"touch {settings} " in steps
    secrets = service["EnvironmentFile"]
    assert secrets.startswith("-"), "the file is not optional"
    assert secrets.removeprefix("-") in steps


def test_an_instance_has_its_own_settings_secrets_and_state() -> None:
    service = unit(ROLE)["Service"]
    python, *_, settings = service["ExecStart"].split()
    assert (python, settings) == (INSTALLED, "/etc/follower-maze/%i.toml")
    assert service["EnvironmentFile"] == "-/etc/follower-maze/%i.env"
    assert service["StateDirectory"] == "follower-maze-%i"
    assert service["TimeoutStartSec"] == "infinity"  # a standby is not ready


def test_the_installation_steps_of_roles_name_the_files_that_are_there() -> None:
    text = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    steps = text.partition("## Under systemd")[2].partition("\n## ")[0]
    assert f"cp deploy/{UNIT.name} /etc/systemd/system/follower-maze@.service" in steps
    assert f"cp -r deploy/{ROLE.parent.name} /etc/systemd/system/" in steps
    assert "/etc/follower-maze/ingest.toml" in steps
    assert "systemctl enable --now --no-block follower-maze@ingest" in steps


@pytest.mark.parametrize("port", SOCKETS)
def test_a_socket_unit_opens_the_port_that_the_service_would_open(port: str) -> None:
    sock = unit(SOCKETS[port])["Socket"]
    defaults = {field.name: field.metadata["default"] for field in fields(Settings)}
    host, number = defaults[f"{port}_host"], defaults[f"{port}_port"]
    assert sock["ListenStream"] == f"{host}:{number}"
    assert sock["Backlog"] == defaults["backlog"]
    assert sock["FileDescriptorName"] == port
    assert sock["Service"] == UNIT.name
    named = unit(WITH_SOCKETS)["Service"]["Sockets"].split()
    assert named == [path.name for path in SOCKETS.values()]


def test_the_installation_steps_of_sockets_name_the_files_that_are_there() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    steps = text.partition("### Sockets from systemd")[2].partition("\n## ")[0]
    files = " ".join(f"deploy/{path.name}" for path in SOCKETS.values())
    assert f"cp {files} /etc/systemd/system/" in steps
    assert f"cp -r deploy/{WITH_SOCKETS.parent.name} /etc/systemd/system/" in steps
    assert f"enable --now {' '.join(path.name for path in SOCKETS.values())}" in steps


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_socket_units(tmp_path: Path) -> None:
    for path in (UNIT, WITH_SOCKETS, *SOCKETS.values()):
        copy = tmp_path / path.relative_to(ROOT / "deploy")
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8").replace(INSTALLED, sys.executable))
    names = [UNIT.name, *(path.name for path in SOCKETS.values())]
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
@pytest.mark.parametrize("arguments", [["verify", "--man=no"], ["security", "--threshold=20"]])
@pytest.mark.parametrize("name", ["follower-maze", "follower-maze@edge-1"])
def test_systemd_finds_nothing_wrong_with_the_unit_files(
    tmp_path: Path, arguments: list[str], name: str
) -> None:
    template = name.partition("@")
    copies = {tmp_path / f"{template[0]}{template[1]}.service": UNIT}
    if template[1]:
        copies[tmp_path / ROLE.parent.name / ROLE.name] = ROLE
    for copy, file in copies.items():
        copy.parent.mkdir(exist_ok=True)
        copy.write_text(file.read_text(encoding="utf-8").replace(INSTALLED, sys.executable))
    offline = ["--offline=true", "--no-pager"] if arguments[0] == "security" else []
    run = subprocess.run(
        ["systemd-analyze", *arguments, *offline, str(tmp_path / f"{name}.service")],
        # systemd looks for the drop-in beside the system's units, too.
        env=os.environ | {"SYSTEMD_UNIT_PATH": f"{tmp_path}:"},
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    if arguments[0] == "verify":
        assert run.stderr == ""


def test_a_supervisor_that_does_not_read_does_not_block_the_server(tmp_path: Path) -> None:
    with Supervisor(tmp_path) as supervisor:
        environment = supervisor.environment(watchdog_seconds=0.002)
        with Child("--log-level", "debug", environment=environment).ready() as child:
            child.await_logged("supervisor_not_told")
            (client,) = child.clients([1])
            child.source().send(b"1|B\n")
            client.expect(b"1|B\n")
            child.signal(signal.SIGTERM)
            until(lambda: child.process.poll() is not None, "the process to end")
            assert child.status() == 0
