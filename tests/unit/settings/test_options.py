"""The settings as an object: the names of options, and the faults of their combinations."""

from dataclasses import Field, FrozenInstanceError, fields
from typing import Any

import pytest

from maze.errors import SettingsError
from maze.server import Server
from maze.settings.combinations import edges_fault, rejects_fault, role_fault
from maze.settings.options import Settings, flag_of, key_of, variable_of

from ..reading import read, refusal

FEED = "unix:/run/maze/feed"
TOKEN = "0123456789abcdef"


def test_settings_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        read().backlog = 1  # type: ignore[misc]


@pytest.mark.parametrize("option", fields(Settings), ids=lambda option: option.name)
def test_the_three_names_of_an_option_follow_one_pattern(option: Field[Any]) -> None:
    words = option.name.split("_")
    assert key_of(option.name) == "-".join(words)
    assert flag_of(option.name) == "--" + "-".join(words)
    assert variable_of(option.name) == "MAZE_" + "_".join(words).upper()


# The ports.


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--source-port 9099", "--source-port and --client-port are both 9099"),
        ("--client-port 9095", "--client-port and --admin-port are both 9095"),
        ("--admin-port 9090", "--source-port and --admin-port are both 9090"),
        ("--role edge --admin-port 9099", "--client-port and --admin-port are both 9099"),
        ("--role ingest --admin-port 9090", "--source-port and --admin-port are both 9090"),
        ("--role ingest --feed 127.0.0.1:9090", "--source-port and --feed are both 9090"),
        ("--role ingest --feed 127.0.0.1:9095", "--admin-port and --feed are both 9095"),
    ],
)
def test_two_ports_of_the_server_that_are_one_are_refused(
    arguments: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, *arguments.split()) == f"{named}: choose different ports"


@pytest.mark.parametrize(
    "arguments",
    ["--admin-host unix:/a --admin-port 0", "--admin-host unix:/b --client-port 9095"],
)
def test_unix_sockets_that_are_two_or_closed_are_accepted(arguments: str) -> None:
    assert read("--client-host", "unix:/a", *arguments.split()).client_host == "unix:/a"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--source-host unix:/a --client-host unix:/a", "--source-host and --client-host"),
        ("--client-host unix:/a --admin-host unix:/a", "--client-host and --admin-host"),
        ("--role ingest --feed unix:/a --source-host unix:/a", "--source-host and --feed"),
    ],
)
def test_two_unix_sockets_that_are_one_are_refused(
    arguments: str, named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    complaint = f"{named} are both unix:/a: choose different paths"
    assert refusal(capsys, *arguments.split()) == complaint


@pytest.mark.parametrize(
    "arguments",
    [
        "--source-port 0 --client-port 0 --admin-port 0",
        "--source-port 9099 --source-host 127.0.0.2",
        "--role edge --client-port 9090",
        "--role ingest --source-port 9099",
        "--role ingest --source-port 0 --feed 127.0.0.1:0 --admin-port 0",
        f"--role ingest --feed {FEED}",
        "--role edge --client-port 9000 --feed 127.0.0.1:9000",
    ],
)
def test_free_ports_and_those_of_other_hosts_may_be_the_same(arguments: str) -> None:
    assert read(*arguments.split()).client_host == "127.0.0.1"


# The admin port.


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "host.test", "localhost.test"])
def test_an_admin_port_that_others_can_reach_needs_a_token(
    host: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert refusal(capsys, "--admin-host", host).startswith(
        f"--admin-host {host} can be reached from other machines: set MAZE_ADMIN_TOKEN"
    )
    assert read("--admin-host", host, MAZE_ADMIN_TOKEN="0123456789abcdef").admin_host == host
    assert read("--admin-host", host, "--admin-port", "0").admin_port == 0


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_one_for_this_machine_alone_needs_none(host: str) -> None:
    assert read("--admin-host", host).admin_token == ""


def test_a_free_admin_port() -> None:
    assert read("--admin-port", "free").admin_port == read("--admin-port", "FREE").admin_port == -1


# Roles.


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (f"--feed {FEED}", "--feed needs --role ingest or --role edge"),
        (
            "--role ingest --journal file",
            "--role ingest needs --feed, the address at which the ingest serves its journal, or a "
            "--journal in Redis",
        ),
        (
            "--role edge",
            "--role edge needs --feed, the address at which the ingest serves its journal, or a "
            "--journal in Redis",
        ),
        (
            f"--role ingest --feed {FEED}",
            "--role ingest needs --journal: the edges are served from it",
        ),
        (
            f"--role edge --feed {FEED} --journal file",
            "--role edge takes no --journal in a file: only the ingest opens it",
        ),
        *(
            (
                f"{arguments} --feed-tls-{end} file",
                f"--feed-tls-{end} needs a --feed at HOST:PORT: no other feed can use TLS",
            )
            for end in ("cert", "key", "ca")
            for arguments in (
                "",
                f"--role ingest --journal file --feed {FEED}",
                f"--role edge --feed {FEED}",
                "--role ingest --journal redis://host",
                "--role edge --journal redis://host",
            )
        ),
        (
            "--role edge --feed 127.0.0.1:0",
            "--feed 127.0.0.1:0 has no port: name the port on which the ingest serves its journal",
        ),
        *(
            (
                f"--role {role} --feed {address}",
                f"--feed {address} can be reached from other machines: set MAZE_FEED_TOKEN to a "
                "secret of 16 characters or more, the same for the ingest and all edges",
            )
            for role in ("ingest --journal file", "edge")
            for address in ("0.0.0.0:9000", "192.0.2.1:9000", "ingest.test:9000", "[::]:9000")
        ),
    ],
)
def test_a_role_and_options_that_contradict_it_are_refused(arguments: str, fault: str) -> None:
    assert role_fault(read(*arguments.split())) == fault
    with pytest.raises(SettingsError) as error:
        Server(read(*arguments.split()))
    assert str(error.value) == fault


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        "--journal file",
        *(
            f"--role {role} --feed {address}"
            for role in ("ingest --journal file", "edge")
            for address in (FEED, "127.0.0.1:9000", "[::1]:9000", "localhost:9000")
        ),
        "--role ingest --journal file --feed 127.0.0.1:0",
        *(
            f"--role {role} --feed 192.0.2.1:9000 --feed-token {TOKEN}"
            for role in ("ingest --journal file", "edge")
        ),
    ],
)
def test_a_role_and_options_that_fit(arguments: str) -> None:
    assert role_fault(read(*arguments.split())) is None


@pytest.mark.parametrize("end", ["cert", "key", "ca"])
def test_processes_on_one_machine_have_no_feed_over_tls(end: str) -> None:
    fault = edges_fault(read("--edges", "2", f"--feed-tls-{end}", "file"))
    assert fault == f"--feed-tls-{end} needs a --feed at HOST:PORT: no other feed can use TLS"


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        ("", "--rejects-undelivered on needs --rejects: the file in which to record them"),
        *(
            (
                f"--rejects file {arguments}",
                "--rejects-undelivered on takes neither --edges nor --role: with these, no process "
                "knows all clients",
            )
            for arguments in (
                "--edges 2",
                f"--role ingest --journal file --feed {FEED}",
                f"--role edge --feed {FEED}",
            )
        ),
    ],
)
def test_undelivered_events_need_a_file_and_all_clients(arguments: str, fault: str) -> None:
    settings = read("--rejects-undelivered", "on", *arguments.split())
    assert rejects_fault(settings) == fault
    with pytest.raises(SettingsError) as error:
        Server(settings)
    assert str(error.value) == fault


@pytest.mark.parametrize(
    "arguments", ["", "--edges 2", "--rejects file", "--rejects file --rejects-undelivered on"]
)
def test_the_options_of_the_reject_file_fit(arguments: str) -> None:
    assert rejects_fault(read(*arguments.split())) is None
