"""A run's result for machines."""

import json
from pathlib import Path
from typing import Any

import pytest
from running import flags
from servers import Server, Tamper, honest

from simulator import errors
from simulator.cli import main
from simulator.errors import OutputError
from simulator.report.json_report import check_writable, write_text
from simulator.stream.workload import ORIGINAL_MIX, Workload

SMALL = ("--total-events", 60, "--concurrency-level", 3, "--number-of-users", 5)
USERS = Workload(60, 3, 5).connected


def written(path: Path, *more: object, tamper: Tamper = honest) -> Any:
    with Server(3, tamper, last=60) as server:
        main(flags(server, *SMALL, "--json", path, *more))
    return json.loads(path.read_text(encoding="utf-8"))


def test_a_run_that_passed(tmp_path: Path) -> None:
    data = written(tmp_path / "out.json", "--rate", 2000, "--latency")
    assert data["format"] == 1
    assert data["parameters"]["events"] == 60
    assert data["parameters"]["mix"] == list(ORIGINAL_MIX)
    assert data["parameters"]["rate"] == 2000
    assert data["verdict"] == {
        "passed": True,
        "failing_clients": 0,
        "source_lost": None,
        "server_faults": [],
        "faults": [],
    }
    figures = data["figures"]
    assert figures["events"] == 60
    assert figures["events_per_second"] == pytest.approx(60 / figures["seconds"])
    assert figures["usage"] is None
    latency = data["latency"]
    assert list(latency["percentiles"]) == ["p50", "p90", "p99", "p99.9"]
    assert latency["deliveries"] == figures["deliveries"]


def test_a_run_that_failed(tmp_path: Path) -> None:
    def tamper(user: int, nth: int, line: bytes) -> bytes:
        return b"\xff\n" if (user, nth) == (USERS[1], 2) else line

    data = written(tmp_path / "out.json", tamper=tamper)
    assert (data["verdict"]["passed"], data["verdict"]["failing_clients"]) == (False, 1)
    (fault,) = data["verdict"]["faults"]
    assert (fault["user"], fault["position"]) == (USERS[1], 2)
    assert fault["received"] == "\\xff\n"
    assert data["latency"] is None


def test_stdout_is_for_the_machine_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with Server(3) as server:
        assert main(flags(server, *SMALL, "--json", "-")) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["verdict"]["passed"]
    assert "ALL NOTIFICATIONS RECEIVED" in captured.err


def test_a_file_that_cannot_be_written_is_known_before_the_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "nowhere" / "out.json"
    assert main(["--json", str(path)]) == 2
    assert capsys.readouterr().err == (
        f"simulator: cannot write {path}: there is no directory {path.parent}\n"
    )


def test_what_can_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(str(tmp_path / "new"))
    with pytest.raises(OutputError, match="it is a directory"):
        check_writable(str(tmp_path))
    monkeypatch.setattr("os.access", lambda _path, _mode: False)
    with pytest.raises(OutputError, match="permission denied"):
        check_writable(str(tmp_path / "new"))


def test_a_file_that_cannot_be_written_after_all(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*: No such file"):
        write_text("text", str(tmp_path / "nowhere" / "out.html"))


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["--latency", "--rate", "1000"], "--latency needs numpy"),
        (["--report", "report.html"], "--report needs numpy and matplotlib"),
        (["bench"], "bench needs numpy and matplotlib"),
    ],
)
def test_a_package_that_is_missing_is_known_before_the_run(
    arguments: list[str],
    what: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(errors, "find_spec", lambda _: None)
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"simulator: {what}: pip install 'follower-maze[measuring]', or ")
    assert "requirements.txt" in line
