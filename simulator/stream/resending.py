"""Find the lines that a source sends again after it has lost its connection."""

import re
from collections.abc import Iterator, Sequence

from simulator.stream.faults import EVENT
from simulator.stream.workload import Chunk

_NUMBERED = re.compile(rb"(\d{1,19})[|\r\n]")


def lines_again(chunks: Sequence[Chunk], stop: int, first: int) -> list[bytes]:
    """Return the lines before offset ``stop`` that have number ``first`` or a higher one.

    They keep their order. A malformed line is left out if an event with its number is among them:
    it was sent when a lower number held that event back, which may not be so again.
    """
    lines = list(_numbered(chunks, stop, first))
    events = {number for number, line in lines if EVENT.fullmatch(line)}
    return [line for number, line in lines if number not in events or EVENT.fullmatch(line)]


def _numbered(chunks: Sequence[Chunk], stop: int, first: int) -> Iterator[tuple[int, bytes]]:
    for chunk in chunks:
        if stop <= 0:
            return
        for line in chunk.data[:stop].splitlines(keepends=True):
            found = _NUMBERED.match(line)
            if found and (number := int(found[1])) >= first:
                yield number, line
        stop -= len(chunk.data)
