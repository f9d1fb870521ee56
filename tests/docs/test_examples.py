"""The examples, played against a server."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.commands import Command
from end_to_end.running import Child

pytestmark = pytest.mark.realtime

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name: str, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / name), *arguments]


def finished(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run an example to its end."""
    return subprocess.run(
        example(*arguments),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_the_client_prints_what_the_source_sends() -> None:
    with Child("--log-level", "debug").ready() as child:
        (host, client_port), (_, source_port) = child.client_address, child.source_address
        client = Command(example("client.py", "50", host, str(client_port)))
        child.await_logged("session_opened")
        source = Command(example("source.py", host, str(source_port)))
        source.say(b"2|P|60|50\n1|F|60|50\n")
        source.end_input()
        assert source.status() == 0
        client.expect(b"1|F|60|50\n2|P|60|50\n")
        child.signal(signal.SIGTERM)
        assert client.status() == 0
    for each in (client, source):
        each.close()


def test_the_client_comes_back_with_a_position() -> None:
    options = ("--on-source-disconnect", "keep", "--position-interval", "1h")
    with Child(*options).ready() as child:
        (host, client_port), (_, source_port) = child.client_address, child.source_address
        first = Command(example("client.py", "50|", host, str(client_port)))
        position = first.read_line()[2:-1]
        source = Command(example("source.py", host, str(source_port)))
        source.say(b"2|P|60|50\n1|F|60|50\n")
        source.end_input()
        assert source.status() == 0
        first.expect(b"1|F|60|50\n2|P|60|50\n")
        again = Command(example("client.py", f"50|{position.decode()}", host, str(client_port)))
        again.expect(b"=|" + position + b"\n1|F|60|50\n2|P|60|50\n")
        child.signal(signal.SIGTERM)
        assert first.status() == again.status() == 0
    for each in (first, source, again):
        each.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["client.py"], "usage: python examples/client.py"),
        (["client.py", "1", "127.0.0.1", "port"], "usage: python examples/client.py"),
        (["source.py", "a", "b", "c"], "usage: python examples/source.py"),
        (["client.py", "1", "127.0.0.1", "0"], "client: cannot connect to 127.0.0.1 port 0: "),
        (["source.py", "127.0.0.1", "0"], "source: cannot connect to 127.0.0.1 port 0: "),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str) -> None:
    run = finished(*arguments)
    assert run.returncode == 1
    assert run.stderr.startswith(said)
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("option", ["-h", "--help"])
@pytest.mark.parametrize("name", ["client.py", "source.py"])
def test_help_says_how_an_example_is_used(name: str, option: str) -> None:
    run = finished(name, option)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"Usage: python examples/{name}" in run.stdout
