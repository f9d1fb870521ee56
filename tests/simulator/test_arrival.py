"""Whether the server has taken the ids, as seen in tables of connections that are made up."""

from pathlib import Path

import pytest

from simulator import arrival

SERVER = 9099
HEADER = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid inode\n"


def row(
    local: int, remote: int, *, tx: int = 0, rx: int = 0, inode: int = 7, state: int = 1
) -> str:
    return (
        f"   0: 0100007F:{local:04X} 0100007F:{remote:04X} {state:02X} {tx:08X}:{rx:08X} "
        f"00:00000000 00000000     0        0 {inode} 1 0 20 4 30 10 -1\n"
    )


class Tables:
    """The kernel's tables, which change each time somebody waits."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, path: Path, states: list[str]) -> None:
        self.path = path
        self.states = iter(states)
        self.waited: list[float] = []
        monkeypatch.setattr(arrival, "TABLES", (path, path.with_name("there is none")))
        self.pause(0.0)
        self.waited.clear()

    def pause(self, seconds: float) -> None:
        self.waited.append(seconds)
        state = next(self.states, None)
        if state is not None:
            self.path.write_text(HEADER + state, encoding="ascii")


def taken(tables: Tables, bound: float = 10.0) -> bool | None:
    return arrival.wait_until_taken({5001, 5002}, SERVER, bound, tables.pause)


OURS = row(5001, SERVER) + row(5002, SERVER)
THEIRS = row(SERVER, 5001) + row(SERVER, 5002)


@pytest.mark.parametrize(
    "before",
    [
        pytest.param(OURS + row(SERVER, 5001), id="one not there yet"),
        pytest.param(OURS + row(SERVER, 5001, inode=0) + row(SERVER, 5002), id="not accepted"),
        pytest.param(OURS + row(SERVER, 5001, rx=6) + row(SERVER, 5002), id="not read"),
        pytest.param(row(5001, SERVER, tx=6) + row(5002, SERVER) + THEIRS, id="still on the way"),
    ],
)
def test_waits_until_the_server_has_accepted_and_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, before: str
) -> None:
    tables = Tables(monkeypatch, tmp_path / "tcp", [before, before, before, OURS + THEIRS])
    assert taken(tables) is True
    assert len(tables.waited) >= 3


def test_a_connection_that_the_server_closed_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    closed = row(5001, SERVER, state=8) + row(SERVER, 5001, state=5, inode=0)
    tables = Tables(monkeypatch, tmp_path / "tcp", [closed + row(5002, SERVER) + row(SERVER, 5002)])
    assert taken(tables) is True


def test_gives_up_at_the_bound(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    unread = OURS + row(SERVER, 5001, rx=6) + row(SERVER, 5002)
    tables = Tables(monkeypatch, tmp_path / "tcp", [unread])
    assert taken(tables, bound=0.0) is False


@pytest.mark.parametrize("state", ["", row(SERVER, 4000)])
def test_waits_a_little_where_nothing_can_be_seen(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, state: str
) -> None:
    tables = Tables(monkeypatch, tmp_path / "tcp", [state])
    assert taken(tables) is None
    assert tables.waited == [arrival.BLIND_WAIT]
