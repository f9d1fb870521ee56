"""Save and load a prepared stream, so that ten million events are prepared only once.

The file contains, in this order:
- ``follower-maze-recording 2`` and LF: its type and the version of its format
- a line of JSON: the workload; for each source, the bytes and events of each chunk; for each
  client, its block size, bytes, events, last line, last number and number of digests
- the chunks of each source, concatenated
- the digests of each client, 32 bytes each, concatenated
- the SHA-256 of everything before it, 32 bytes
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from simulator.errors import OutputError, RecordingError
from simulator.stream.faults import Faults
from simulator.stream.oracle import Expectation, Prepared
from simulator.stream.workload import Chunk, Workload

VERSION = 2
"""Version of the file format."""

_NAME = b"follower-maze-recording"
_DIGEST_BYTES = 32
_MAX_NAME_BYTES = 64


def save(path: str, workload: Workload, prepared: Prepared) -> None:
    """Write the file, completely or not at all; raise OutputError if it cannot be written."""
    part = Path(f"{path}.part")
    try:
        with part.open("wb") as file:
            checksum = hashlib.sha256()
            for piece in _pieces(workload, prepared):
                checksum.update(piece)
                file.write(piece)
            file.write(checksum.digest())
        os.replace(part, path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


def load(path: str) -> tuple[Workload, Prepared]:
    """Read the file; raise RecordingError if it is not a complete recording of this version."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise RecordingError(f"cannot read {path}: {error.strerror}") from error
    _check(path, data)
    try:
        begin = data.index(b"\n") + 1
        end = data.index(b"\n", begin)
        return _restored(json.loads(data[begin:end]), memoryview(data)[end + 1 :])
    except (ValueError, KeyError, TypeError) as error:
        raise RecordingError(
            f"{path} is not a recording that can be replayed ({error!r}): record it again"
        ) from error


def _pieces(workload: Workload, prepared: Prepared) -> Iterator[bytes]:
    yield b"%b %d\n" % (_NAME, VERSION)
    yield json.dumps(_header(workload, prepared)).encode("ascii") + b"\n"
    for chunks in prepared.feeds:
        for chunk in chunks:
            yield chunk.data
    for expectation in prepared.expectations:
        yield b"".join(expectation.digests)


def _header(workload: Workload, prepared: Prepared) -> dict[str, Any]:
    return {
        "workload": dataclasses.asdict(workload),
        "feeds": [[(len(chunk.data), chunk.events) for chunk in feed] for feed in prepared.feeds],
        "clients": [
            {
                "block": expectation.block,
                "bytes": expectation.bytes,
                "events": expectation.events,
                "last_line": expectation.last_line.decode("ascii"),
                "last_number": expectation.last_number,
                "digests": len(expectation.digests),
            }
            for expectation in prepared.expectations
        ],
    }


def _check(path: str, data: bytes) -> None:
    name, _, version = data[:_MAX_NAME_BYTES].partition(b"\n")[0].partition(b" ")
    if name != _NAME:
        raise RecordingError(f"{path} is not a recording: `python -m simulator record` writes one")
    if version != b"%d" % VERSION:
        raise RecordingError(
            f"{path} has version {version.decode('ascii', 'replace')} of the format, but this "
            f"simulator reads {VERSION}: record it again"
        )
    if hashlib.sha256(memoryview(data)[:-_DIGEST_BYTES]).digest() != data[-_DIGEST_BYTES:]:
        raise RecordingError(
            f"{path} is incomplete or damaged (its checksum does not match): record it again"
        )


def _restored(header: dict[str, Any], rest: memoryview) -> tuple[Workload, Prepared]:
    given = header["workload"]
    workload = Workload(**given | {"mix": tuple(given["mix"]), "faults": Faults(**given["faults"])})
    feeds = []
    for sizes in header["feeds"]:
        chunks = []
        for size, events in sizes:
            chunks.append(Chunk(bytes(rest[:size]), events))
            rest = rest[size:]
        feeds.append(chunks)
    expectations = []
    for fields in header["clients"]:
        expectations.append(_expectation(fields, rest))
        rest = rest[_DIGEST_BYTES * fields["digests"] :]
    return workload, Prepared(feeds, expectations)


def _expectation(fields: dict[str, Any], rest: memoryview) -> Expectation:
    expectation = Expectation(fields["block"])
    expectation.bytes = fields["bytes"]
    expectation.events = fields["events"]
    expectation.last_line = fields["last_line"].encode("ascii")
    expectation.last_number = fields["last_number"]
    expectation.digests = list(_split(rest[: _DIGEST_BYTES * fields["digests"]]))
    return expectation


def _split(digests: memoryview) -> Iterable[bytes]:
    return (
        bytes(digests[start : start + _DIGEST_BYTES])
        for start in range(0, len(digests), _DIGEST_BYTES)
    )
