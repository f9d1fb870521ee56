"""Commands that read a journal; a server may write it meanwhile."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import BinaryIO

from maze.core import Position, parse_number
from maze.journal.check import Checker
from maze.journal.journal import Batch, JournalError, TrimmedError
from maze.journal.places import Place, Reader

READ_BYTES = 2**20
"""Bytes of batches read at a time, about."""


def info(place: Place) -> str:
    """Describe a journal."""
    with closing(place.reader()) as reader:
        kept_from, position, events, used_bytes, _ = reader.statistics()
        overview = reader.overview()
    rows = [
        ("format", str(place.format)),
        ("epoch", str(position.epoch)),
        ("first", _shown(kept_from)),
        ("position", _shown(position)),
        ("batches", f"{overview.batches:,}"),
        ("events", f"{events:,}"),
        ("oldest", _time(overview.oldest)),
        ("newest", _time(overview.newest)),
        ("bytes", place.size(used_bytes)),
        ("snapshots", f"{len(overview.snapshots)}"),
    ]
    rows += [
        ("", f"{_shown(at)}, {_time(committed)}, {size:,} bytes")
        for at, committed, size in overview.snapshots
    ]
    return "".join(f"{name:<10}{value}\n" for name, value in rows)


def check(place: Place, out: BinaryIO) -> int:
    """Write a line for each fault of a journal; return how many there are."""
    faults = 0
    with closing(place.reader()) as reader:
        checker = Checker(reader)
        for fault in checker.faults():
            out.write(f"{fault}\n".encode())
            faults += 1
        if not faults:
            counts = f"batches: {checker.batches:,}, snapshots: {checker.snapshots}"
            out.write(f"no faults ({counts})\n".encode())
    return faults


def dump(place: Place, first: int | None, out: BinaryIO) -> None:
    """Write the lines of the present epoch from number ``first`` on, or from the first one kept."""
    with closing(place.reader()) as reader:
        for batch in _batches(reader, first):
            if first is None or batch.first >= first:
                out.write(batch.body)
            else:
                lines = batch.body.splitlines(keepends=True)
                out.writelines(line for line in lines if _sequence(line) >= first)


def _batches(reader: Reader, first: int | None) -> Iterator[Batch]:
    """Return the batches of the present epoch up to the present end."""
    position = reader.position()
    begin = reader.epoch_begin()
    after = begin if first is None else Position(begin.epoch, first)
    if after < begin:
        raise TrimmedError(f"the present epoch is kept from number {begin.next} on")
    if after > position:
        raise JournalError(f"the present epoch ends before number {position.next}")
    while after < position:
        for batch in reader.read(after, READ_BYTES):
            if batch.position > position:
                return
            yield batch
            after = batch.position


def _sequence(line: bytes) -> int:
    return parse_number(line.split(b"|", 1)[0]) or 0


def _shown(position: Position) -> str:
    return f"{position.epoch}-{position.next}"


def _time(seconds: int | None) -> str:
    if seconds is None:
        return "-"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
