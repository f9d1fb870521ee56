"""Sources that send junk, leave gaps, repeat events, reset in mid-line or are too many."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import gevent
from end_to_end.peers import broadcasts, joined, until
from end_to_end.running import Child
from property.grammar import parse

from .peers import together
from .process import MB, Process

Serve = Callable[..., Child]

FORMS = [b"%d", b"%d|", b"%d|X", b"%d|b", b"%d|B|", b"%d|F|1", b"%d|S|-1", b"%d|P|1|2|3", b"%d|U||"]
"""Malformed lines with a valid number, which counts as used."""


def mixed(pick: random.Random, count: int) -> list[bytes]:
    """Return random valid and malformed lines, shuffled within windows; none is too long."""
    lines = []
    for number in range(1, count + 1):
        if pick.random() < 0.2:
            lines.append(pick.choice(FORMS).replace(b"%d", b"%d" % number) + b"\n")
        else:
            lines.append(b"%d|B" % number + pick.choice([b"\n", b"\r\n"]))
    window = 50
    for start in range(0, count, window):
        part = lines[start : start + window]
        part += [_junk(pick) for _ in range(pick.randrange(20))]
        pick.shuffle(part)
        lines[start : start + window] = [b"".join(part)]
        lines[start + 1 : start + 1] = [b""] * (window - 1)
    return [line + b"\n" for line in b"".join(lines).split(b"\n")[:-1]]


def _junk(pick: random.Random) -> bytes:
    """Return a line without a valid sequence number."""
    junk = pick.randbytes(pick.randrange(60)).replace(b"\n", b"")
    return pick.choice([b"x", b"-", b"\xff", b"|", b" "]) + junk + b"\n"


def test_valid_lines_among_malformed_ones_are_all_delivered(serve: Serve) -> None:
    """Send twenty streams, each in random pieces and over its own connection."""
    child = serve()
    clients = child.clients([1, 2])
    rejected = Counter[str]()
    for seed in range(20):
        pick = random.Random(seed)
        lines = mixed(pick, 2_000)
        parsed = [(parse(line), line) for line in lines]
        by_number = sorted((number, line) for (reason, number, *_), line in parsed if not reason)
        valid = joined(line for _, line in by_number)
        rejected.update(reason for (reason, *_), _ in parsed if reason)
        stream = b"".join(lines)
        source = child.source()
        while stream:
            size = pick.choice([1, 10, 1_000, 100_000])
            source.send(stream[:size])
            stream = stream[size:]
        source.half_close()
        for client in clients:
            client.expect(valid)
        source.expect_closed()
    child.await_logged("source_disconnected", 20)
    for reason, count in rejected.items():
        counted = sum(line.get(reason, 0) for line in child.logged("source_disconnected"))
        assert (reason, counted) == (reason, count)
    assert child.logged("session_closed") == []


def test_line_without_end_closes_its_source_only(serve: Serve) -> None:
    child = serve()
    process = Process(child.process.pid)
    (client,) = child.clients([1])
    before = process.resident_bytes()
    for _ in range(5):
        source = child.source()
        source.send(b"1|B\n")
        client.expect(b"1|B\n")
        sending = source.send_in_background(b"2" * (20 * MB))
        source.read_until_closed()
        sending.join(10)
    assert process.peak_resident_bytes() < before + 10 * MB
    child.await_logged("source_disconnected", 5)
    assert {line["reason"] for line in child.logged("source_closed")} == {"line_too_long"}
    child.source().send(b"1|P|9|1\n")
    client.expect(b"1|P|9|1\n")


def test_gaps_that_never_fill(serve: Serve) -> None:
    """Every tenth number is missing: memory is bounded, and the rest is delivered in order."""
    child = serve()
    process = Process(child.process.pid)
    (client,) = child.clients([1])
    inbox = client.read_in_background()
    source = child.source()
    lines = [line for number, line in enumerate(broadcasts(1, 1_000_001), start=1) if number % 10]
    sending = source.send_in_background(joined(lines))
    sending.join(60)
    source.half_close()
    expected = joined(lines)
    until(lambda: inbox.size >= len(expected), "everything to arrive", seconds=60)
    assert inbox.so_far() == expected
    child.await_logged("source_disconnected")
    # The last missing number has no event behind it, so it is not skipped.
    assert child.logged("source_disconnected")[0]["skipped"] == 99_999
    assert process.peak_resident_bytes() < 160 * MB


def test_gap_with_the_fail_policy_costs_the_source_only(serve: Serve) -> None:
    child = serve("--gap-policy", "fail", "--reorder-limit", "1000")
    (client,) = child.clients([1])
    source = child.source()
    source.send_in_background(joined(broadcasts(3, 100_000)))
    source.read_until_closed()
    child.await_logged("source_disconnected")
    (line,) = child.logged("source_closed")
    assert line["reason"] == "gap"
    child.source().send(b"1|P|9|1\n")
    received = [client.read_line()]
    while received[-1] != b"1|P|9|1\n":
        received.append(client.read_line())
    # The events behind the gap were delivered in order after the source had disconnected.
    assert 1_000 < len(received) < 100_000
    assert received[:-1] == broadcasts(3, 2 + len(received))
    assert child.logged("session_closed") == []


def test_every_event_many_times_and_in_contradiction(serve: Serve) -> None:
    """The first event with a number wins; repetitions take no lasting memory."""
    child = serve()
    process = Process(child.process.pid)
    one, two = child.clients([1, 2])
    pick = random.Random(3)
    sent, expected = [], []
    for start in range(1, 20_001, 100):
        window = [b"%d|P|9|1\n" % number for number in range(start, start + 100)]
        expected += window
        again = [b"%d|P|9|2\n" % pick.randrange(start, start + 100) for _ in range(200)]
        stale = [b"%d|B\n" % pick.randrange(1, start + 1) for _ in range(50 if start > 1 else 0)]
        sent += [*window[::-1], *window, *again, *stale]
    source = child.source()
    source.send(joined(sent) + b"20001|B\n")
    one.expect(joined(expected) + b"20001|B\n")
    two.expect_nothing_before(b"20001|B\n")
    source.close()
    child.await_logged("source_disconnected")
    (line,) = child.logged("source_disconnected")
    assert line["routed_events"] == 20_001
    assert (
        sum(line.get(reason, 0) for reason in ("duplicate", "conflict", "stale"))
        == len(sent) - 20_000
    )
    assert process.peak_resident_bytes() < 160 * MB


def test_sources_that_reset_in_mid_line(serve: Serve) -> None:
    child = serve()
    process = Process(child.process.pid)
    (client,) = child.clients([1])
    descriptors = process.descriptors()
    for number in range(1, 51):
        source = child.source()
        source.send(b"1|P|%d|1\n2|P|" % number)
        client.expect(b"1|P|%d|1\n" % number)
        source.reset()
        child.await_logged("source_disconnected", number)
    until(lambda: process.descriptors() == descriptors, "every descriptor to be freed")
    assert len(child.logged("source_cut_off")) == 50
    assert {line["reason"] for line in child.logged("source_disconnected")} == {"reset"}
    assert child.logged("session_closed") == []


def test_source_that_is_cut_off_again_and_again_goes_on_where_it_was(serve: Serve) -> None:
    """With ``keep``, events behind a gap wait for the source that sends the missing ones."""
    child = serve("--on-source-disconnect", "keep")
    (client,) = child.clients([1])
    lines = broadcasts(1, 1_001)
    for cut in range(20):
        part = lines[cut * 50 : cut * 50 + 50]
        source = child.source()
        # The next source sends the first event of this part, which is missing here.
        source.send(joined(part[1:]) + b"half a li")
        source.reset() if cut % 2 else source.close()
        child.await_logged("source_disconnected", 2 * cut + 1)
        source = child.source()
        source.send(joined(lines[max(0, cut - 1) * 50 : cut * 50]) + part[0])
        client.expect(joined(part))
        source.close()
        child.await_logged("source_disconnected", 2 * cut + 2)
    assert child.logged("numbers_skipped") == []
    assert child.logged("session_closed") == []


def test_200_sources_too_many_are_refused_at_once(serve: Serve) -> None:
    child = serve()
    process = Process(child.process.pid)
    (client,) = child.clients([1])
    source = child.source()
    source.send(b"1|B\n")
    client.expect(b"1|B\n")
    descriptors = process.descriptors()
    intruders = [child.source() for _ in range(200)]
    for intruder in intruders:
        intruder.send_in_background(b"2|P|666|1\n")
        intruder.read_until_closed()
    until(lambda: process.descriptors() == descriptors, "every descriptor to be freed")
    source.send(b"2|B\n")
    client.expect_nothing_before(b"2|B\n")


def test_redundant_sources_of_which_one_after_the_other_is_reset(serve: Serve) -> None:
    child = serve("--max-sources", "3")
    (client,) = child.clients([1])
    inbox = client.read_in_background()
    lines = broadcasts(1, 60_001)
    feeds = [child.source() for _ in range(3)]
    child.await_logged("source_connected", 3)
    # The feeds are reset after one, two and three thirds of the stream, the first two in mid-line.
    for index, feed in enumerate(feeds, start=1):
        part = joined(lines[: 20_000 * index])
        feed.send(part if index == 3 else part + b"9|")
        until(lambda p=part: inbox.size >= len(p), "the feed to be routed")  # type: ignore[misc]
        feed.reset()
        child.await_logged("source_disconnected", index)
    assert inbox.so_far() == joined(lines)


def test_flood_of_junk_is_thrown_away(serve: Serve) -> None:
    """One broadcast per megabyte of junk: clients are still served, and the log is not flooded."""
    child = serve()
    process = Process(child.process.pid)
    (client,) = child.clients([1])
    source = child.source()
    pick = random.Random(5)
    junk = b"".join(_junk(pick) for _ in range(32_000))
    rounds = 10

    def send() -> None:
        for number in range(1, rounds + 1):
            source.sock.sendall(junk + b"%d|B\n" % number)

    sending = gevent.spawn(send)
    for number in range(1, rounds + 1):
        client.expect(b"%d|B\n" % number)
    together(sending)
    assert process.peak_resident_bytes() < 160 * MB
    assert len(child.logged("line_rejected")) < 100
