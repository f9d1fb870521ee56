"""Connection limits of the client port, with made-up addresses and a fake clock."""

from typing import Any

from structlog.testing import capture_logs

from maze.listener.connection_limits import ConnectionLimits
from maze.log.processors import RateLimit
from maze.net.peer import UNIX_PEER, Address, Peer
from maze.settings.option_types import peer_ranges
from maze.settings.options import Settings


def limits(**bounds: Any) -> ConnectionLimits:
    return ConnectionLimits(Settings(**bounds))


def acquire(taken: ConnectionLimits, address: Address) -> bool:
    return taken.acquire(address, address)


def begin_handshake(taken: ConnectionLimits, address: Address) -> bool:
    return taken.begin_handshake(address, Peer(address))


def peer(port: int, host: str = "192.0.2.1") -> Address:
    return host, port


def test_a_connection_counts_until_it_is_released() -> None:
    taken = limits(max_clients=2)
    assert [acquire(taken, peer(port)) for port in (1, 2, 3)] == [True, True, False]
    taken.release(peer(1))
    assert [acquire(taken, peer(port)) for port in (4, 5)] == [True, False]
    assert taken.taken == 2
    assert taken.refused == {"max_clients": 2}


def test_a_lowered_max_clients_is_kept() -> None:
    taken = limits(max_clients=2)
    taken.max_clients = 1
    assert [acquire(taken, peer(port)) for port in (1, 2)] == [True, False]


def test_the_limit_per_address_does_not_concern_other_addresses() -> None:
    taken = limits(max_clients_per_address=1)
    assert acquire(taken, peer(1))
    assert not acquire(taken, peer(2))
    assert acquire(taken, peer(2, "192.0.2.2"))
    assert acquire(taken, ("2001:db8::1", 2, 0, 0))
    assert not acquire(taken, ("2001:db8::1", 3, 0, 0))
    taken.release(peer(1))
    assert acquire(taken, peer(3))
    assert taken.refused == {"max_clients_per_address": 2}


def test_pending_handshakes_are_limited() -> None:
    taken = limits(max_handshakes=1)
    assert all(acquire(taken, peer(port)) for port in range(1, 6))
    assert [begin_handshake(taken, peer(port)) for port in (1, 2)] == [True, False]
    taken.end_handshake(peer(1))
    assert [begin_handshake(taken, peer(port)) for port in (3, 4)] == [True, False]
    taken.release(peer(3))
    assert taken.handshakes == 0
    assert begin_handshake(taken, peer(5))
    assert taken.refused == {"max_handshakes": 2}


def test_a_proxy_counts_by_address_once_its_header_is_read() -> None:
    taken = limits(max_clients=4, max_clients_per_address=1, proxy_from=peer_ranges("10.0.0.0/8"))
    proxy, real = peer(1, "10.0.0.1"), peer(9)
    for number in range(4):
        assert taken.acquire(number, proxy)
    assert not taken.acquire(4, proxy)  # max-clients
    assert taken.identify(0, real, Peer(real))
    assert not taken.identify(1, real, Peer(real))
    assert taken.identify(1, proxy, Peer(proxy))
    assert not taken.identify(2, proxy, Peer(proxy))
    taken.release(0)
    assert taken.identify(2, real, Peer(real))
    for number in (1, 2, 3):
        taken.release(number)
    assert (taken.taken, taken._by_host) == (0, {})
    assert taken.refused == {"max_clients": 1, "max_clients_per_address": 2}


def test_peers_on_a_unix_socket_do_not_count_by_address() -> None:
    taken = limits(max_clients=3, max_clients_per_address=1, max_handshakes=2)
    assert [taken.acquire(number, UNIX_PEER) for number in range(4)] == [True] * 3 + [False]
    assert [taken.begin_handshake(number, Peer(UNIX_PEER)) for number in range(3)] == [
        *(True, True, False)
    ]
    taken.release(0)
    assert taken.handshakes == 1
    assert taken.refused == {"max_clients": 1, "max_handshakes": 1}


def test_nothing_is_kept_of_released_connections() -> None:
    taken = limits(max_clients=1)
    for number in range(10):
        address = peer(number, f"192.0.2.{number}")
        acquire(taken, address)
        begin_handshake(taken, address)
        acquire(taken, peer(number, "192.0.2.100"))
        if number % 2:
            taken.end_handshake(address)
        taken.release(address)
    assert (taken.taken, taken.handshakes, taken._by_host) == (0, 0, {})


def test_a_refusal_is_logged_at_most_once_a_second_for_each_limit() -> None:
    now = 1000.0
    taken = limits(max_clients=0)
    with capture_logs([RateLimit(clock=lambda: now)]) as entries:
        for port in (1, 2, 3):
            acquire(taken, peer(port))
        now += 1
        acquire(taken, peer(4))
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
