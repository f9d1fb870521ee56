"""A recording gives back what was prepared, and anything else is one clear line."""

import hashlib
from pathlib import Path

import pytest
from running import flags
from servers import Server

from simulator.cli import main
from simulator.errors import OutputError, RecordingError
from simulator.stream.faults import Faults
from simulator.stream.oracle import Prepared, prepare
from simulator.stream.recording import load, save
from simulator.stream.workload import Workload

WORKLOAD = Workload(
    events=900,
    clients=3,
    users=7,
    mix=(1, 2, 3, 4, 0.5),
    crlf=True,
    faults=Faults(duplicates=3, conflicts=4, malformed=5, gaps=2),
    sources=2,
)


def prepared() -> Prepared:
    return prepare(WORKLOAD, 4096, lambda _done: None)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "stream"
    save(str(path), WORKLOAD, prepared())
    return path


def test_it_gives_back_what_was_prepared(recording: Path) -> None:
    workload, restored = load(str(recording))
    assert workload == WORKLOAD
    assert restored.feeds == prepared().feeds
    fields = ("block", "bytes", "events", "last_line", "last_number", "digests")
    for one, other in zip(restored.expectations, prepared().expectations, strict=True):
        assert [getattr(one, name) for name in fields] == [getattr(other, name) for name in fields]
    assert list(recording.parent.iterdir()) == [recording]


@pytest.mark.parametrize("size", [0, 10, 25, 200, 5000, -33, -1])
def test_a_file_that_is_cut_short(recording: Path, size: int) -> None:
    recording.write_bytes(recording.read_bytes()[:size])
    with pytest.raises(RecordingError) as caught:
        load(str(recording))
    assert str(recording) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("place", [40, 3000, -40, -1])
def test_a_file_with_a_wrong_byte(recording: Path, place: int) -> None:
    data = bytearray(recording.read_bytes())
    data[place] ^= 1
    recording.write_bytes(data)
    with pytest.raises(RecordingError, match="its checksum does not match"):
        load(str(recording))


def test_a_file_of_another_version(recording: Path) -> None:
    data = recording.read_bytes()
    recording.write_bytes(data.replace(b"recording 2\n", b"recording 1\n", 1))
    with pytest.raises(RecordingError, match=r"has version 1 of the format, but this .* reads 2"):
        load(str(recording))


def test_a_header_that_says_nothing(tmp_path: Path) -> None:
    data = b"follower-maze-recording 2\n{}\n"
    path = tmp_path / "stream"
    path.write_bytes(data + hashlib.sha256(data).digest())
    with pytest.raises(RecordingError, match="is not a recording that can be replayed"):
        load(str(path))


def test_what_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"cannot read .*: No such file"):
        load(str(tmp_path / "none"))
    with pytest.raises(OutputError, match="cannot write"):
        save(str(tmp_path / "none" / "stream"), WORKLOAD, prepared())


STREAM = ("--total-events", "400", "--concurrency-level", "3", "--number-of-users", "5")


def test_record_and_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "stream")
    assert main(["record", path, *STREAM]) == 0
    assert capsys.readouterr().out.endswith("recorded 400 events for 3 clients\n")
    with Server(3) as server:
        assert main(["replay", path, *flags(server)]) == 0
    assert capsys.readouterr().out.endswith("\n\\o/ ALL NOTIFICATIONS RECEIVED \\o/\n")
    user = Workload(400, 3, 5).connected[0]
    with Server(3, lambda to, _nth, line: b"" if to == user else line, last=400) as server:
        assert main(["replay", path, *flags(server)]) == 1
    assert f"user {user}: missing at its event 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["replay", "FILE", "--total-events", "5"], "unrecognized arguments: --total-events"),
        (["replay", "FILE"], "FILE is not a recording"),
        (["replay"], "the following arguments are required: FILE"),
        (["record"], "the following arguments are required: FILE"),
        (["record", "nowhere/FILE"], "there is no directory nowhere"),
        (["record", "FILE", "--rate", "5"], "unrecognized arguments: --rate"),
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
    Path("FILE").write_text("something else\n")
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert part in line
