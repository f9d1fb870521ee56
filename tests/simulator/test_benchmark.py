"""The benchmark: medians and ratios from figures that are made up, and a short real one."""

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from test_server_process import command

from simulator.bench import benchmark
from simulator.bench.table import markdown
from simulator.bench.workloads import WORKLOADS, Workload
from simulator.cli import main
from simulator.parameters import parse

SMALL = {
    "W1": Workload(
        "--total-events 60 --concurrency-level 3 --number-of-users 5 --linger 0", "short"
    ),
    "W6": Workload(
        "--total-events 60 --concurrency-level 3 --number-of-users 5 --linger 0 "
        "--rate 2000 --latency",
        "paced",
    ),
}


def figures(events: float, p50: float | None = None) -> dict[str, float | None]:
    return {
        "events_per_second": events,
        "deliveries_per_second": events * 20,
        "cpu_seconds_per_million_events": 1.5,
        "peak_bytes": 2**25,
        "latency_p50": p50,
        "latency_p99": p50,
    }


def results(*events: float) -> dict[str, Any]:
    runs = [figures(value, 0.001) for value in events]
    entry = {
        "flags": "",
        "stresses": "all",
        "passed": True,
        "runs": runs,
        **benchmark.summary(runs),
    }
    machine = {"processors": 2, "architecture": "a", "system": "s", "python": "3"}
    return {"format": benchmark.FORMAT, "machine": machine, "workloads": {"W1": entry}}


def test_medians_and_spreads() -> None:
    summary = benchmark.summary([figures(100), figures(90), figures(130)])
    assert summary["median"]["events_per_second"] == 100
    assert summary["spread"]["events_per_second"] == pytest.approx(0.4)
    assert summary["median"]["latency_p50"] is None
    assert summary["spread"]["latency_p50"] is None


def test_the_table_has_medians_and_ratios() -> None:
    head, rule, row = markdown(results(100_000, 90_000, 130_000), results(80_000))
    assert {len(head), len(rule), len(row)} == {len(head)}
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells == [
        "W1 all",
        "3",
        "100,000 ±20% (1.25x)",
        "2,000,000 ±20% (1.25x)",
        "1.50 ±0% (1.00x)",
        "32.0 ±0% (1.00x)",
        "1.00 ±0% (1.00x)",
        "1.00 ±0% (1.00x)",
    ]


def test_what_failed_is_marked_and_what_is_not_there_left_out() -> None:
    data = results(100)
    entry = data["workloads"]["W1"]
    entry["passed"] = False
    entry["runs"][0]["latency_p50"] = entry["median"]["latency_p50"] = None
    *_, row = markdown(data, None)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[0] == "W1 all **FAILED**"
    assert cells[2] == "100"
    assert cells[6] == ""


def test_a_workload_that_was_not_measured_before_is_marked() -> None:
    data = results(100)
    assert "W1 all (new) |" in markdown(data, {"workloads": {}})[2]
    assert "(new)" not in markdown(data, None)[2]


def test_every_workload_can_be_played() -> None:
    assert list(WORKLOADS) == [f"W{number}" for number in range(1, 9)]
    for workload in WORKLOADS.values():
        assert parse(workload.flags.split(), {}).workload.events >= 20_000


def test_a_short_benchmark(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(benchmark, "WORKLOADS", SMALL)
    names = ("out.json", "table.md", "picture.png", "picture.svg")
    out, table, picture, drawing = (tmp_path / name for name in names)
    arguments = ["bench", "--runs", "2", "--json", str(out), "--markdown", str(table)]
    arguments += ["--png", str(picture), "--svg", str(drawing)]
    assert main(arguments, command("behaves", 3)) == 0
    assert "W6 run 2 of 2: " in capsys.readouterr().out
    data = json.loads(out.read_text())
    assert [len(entry["runs"]) for entry in data["workloads"].values()] == [2, 2]
    for name, entry in data["workloads"].items():
        assert entry["median"]["events_per_second"] > 0
        assert entry["median"]["peak_bytes"] > 2**20
        assert (entry["median"]["latency_p99"] is not None) == (name == "W6")
    assert len(table.read_text().splitlines()) == 4
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "W6" in "".join(ElementTree.parse(drawing).getroot().itertext())

    again = ["bench", "--workloads", "w1", "--runs", "1", "--compare", str(out)]
    assert main([*again, "--png", str(picture)], command("behaves", 3)) == 0
    assert "x) |" in capsys.readouterr().out


def test_every_run_has_a_new_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "WORKLOADS", SMALL)
    arguments = ["bench", "--workloads", "W1", "--runs", "2"]
    # With the journal of the first run, all events of the second would be stale.
    assert main([*arguments, "--server-options=--journal {new}/journal"]) == 0


def test_a_run_that_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    silent = SMALL["W1"]._replace(flags=SMALL["W1"].flags + " --timeout 200")
    monkeypatch.setattr(benchmark, "WORKLOADS", {"W1": silent})
    # The stand-in waits for a client more than there are, and so for ever.
    assert main(["bench", "--runs", "1"], command("behaves", 4)) == 1
    out = capsys.readouterr().out
    assert "\nFAILED\n" in out
    assert "W1 short **FAILED**" in out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["--workloads", "W1,W9"], "--workloads: W9 is not one of W1, W2"),
        (["--runs", "0"], "--runs: 0 is not at least 1"),
        (["--compare", "none.json"], "--compare: cannot read none.json: No such file"),
        (["--compare", "FILE"], "--compare: FILE is not a file that bench --json wrote"),
        (["--compare", "OLD"], "--compare: OLD has the format of another version"),
        (["--compare", "ODD"], "--compare: ODD is not a file that bench --json wrote"),
        (["--json", "nowhere/out.json"], "there is no directory nowhere"),
        (["--png", "x.svg"], "--png x.svg: the file name must end in .png"),
        (["--tls-ca", "none.pem"], "--tls-ca none.pem cannot be read"),
        (["--tls-key", "none.pem"], "--tls-cert and --tls-key need --tls-ca"),
        (["--svg", "x"], "--svg x: the file name must end in .svg"),
    ],
)
def test_wrong_usage_is_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    odd = results(1)
    odd["workloads"]["W1"]["median"]["events_per_second"] = "many"
    for name, text in {"FILE": "[]", "OLD": '{"format": 0}', "ODD": json.dumps(odd)}.items():
        Path(name).write_text(text)
    assert main(["bench", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line


def test_too_few_open_files_are_told_before_a_server_starts(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("simulator.play.connecting.resource.getrlimit", lambda _: (1024, 4096))
    assert main(["bench", "--workloads", "W1,W7"], ["/nowhere/no-server"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "10064 open files are needed, but the limit is 4096" in line
    assert line.endswith("or leave W7 out with --workloads")
