"""Connection limits of the client port, with made-up addresses and a fake clock."""

from typing import Any

from structlog.testing import capture_logs

from maze.listener.connection_limits import ConnectionLimits
from maze.log.processors import RateLimit
from maze.net.peer import Address, Peer
from maze.settings.options import Settings


def limits(**bounds: Any) -> ConnectionLimits:
    return ConnectionLimits(Settings(**bounds))


def begin_handshake(taken: ConnectionLimits, address: Address) -> bool:
    return taken.begin_handshake(address, Peer(address))


def peer(port: int, host: str = "192.0.2.1") -> Address:
    return host, port


def test_a_connection_counts_until_it_is_released() -> None:
    taken = limits(max_clients=2)
    assert [taken.acquire(peer(port)) for port in (1, 2, 3)] == [True, True, False]
    taken.release(peer(1))
    assert [taken.acquire(peer(port)) for port in (4, 5)] == [True, False]
    assert taken.taken == 2
    assert taken.refused == {"max_clients": 2}


def test_a_lowered_max_clients_is_kept() -> None:
    taken = limits(max_clients=2)
    taken.max_clients = 1
    assert [taken.acquire(peer(port)) for port in (1, 2)] == [True, False]


def test_the_limit_per_address_does_not_concern_other_addresses() -> None:
    taken = limits(max_clients_per_address=1)
    assert taken.acquire(peer(1))
    assert not taken.acquire(peer(2))
    assert taken.acquire(peer(2, "192.0.2.2"))
    assert taken.acquire(("2001:db8::1", 2, 0, 0))
    assert not taken.acquire(("2001:db8::1", 3, 0, 0))
    taken.release(peer(1))
    assert taken.acquire(peer(3))
    assert taken.refused == {"max_clients_per_address": 2}


def test_pending_handshakes_are_limited() -> None:
    taken = limits(max_handshakes=1)
    assert all(taken.acquire(peer(port)) for port in range(1, 6))
    assert [begin_handshake(taken, peer(port)) for port in (1, 2)] == [True, False]
    taken.end_handshake(peer(1))
    assert [begin_handshake(taken, peer(port)) for port in (3, 4)] == [True, False]
    taken.release(peer(3))
    assert taken.handshakes == 0
    assert begin_handshake(taken, peer(5))
    assert taken.refused == {"max_handshakes": 2}


def test_nothing_is_kept_of_released_connections() -> None:
    taken = limits(max_clients=1)
    for number in range(10):
        address = peer(number, f"192.0.2.{number}")
        taken.acquire(address)
        begin_handshake(taken, address)
        taken.acquire(peer(number, "192.0.2.100"))
        if number % 2:
            taken.end_handshake(address)
        taken.release(address)
    assert (taken.taken, taken.handshakes, taken._by_host) == (0, 0, {})


def test_a_refusal_is_logged_at_most_once_a_second_for_each_limit() -> None:
    now = 1000.0
    taken = limits(max_clients=0)
    with capture_logs([RateLimit(clock=lambda: now)]) as entries:
        for port in (1, 2, 3):
            taken.acquire(peer(port))
        now += 1
        taken.acquire(peer(4))
    assert entries == [
        {
            "event": "client_refused",
            "log_level": "warning",
            "reason": "max_clients",
            "client": f"192.0.2.1:{port}",
            "limit": 0,
            **suppressed,
        }
        for port, suppressed in [(1, {}), (4, {"suppressed": 2})]
    ]
