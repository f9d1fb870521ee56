"""Streams as sources send them, from the orderly to the hostile."""

from itertools import pairwise

from hypothesis import strategies as st

USERS = range(5)
LARGEST = 2**63 - 1
LINE_LIMIT = 64

MALFORMED = [
    # with a valid sequence number
    b"%(number)d",
    b"%(number)d|",
    b"%(number)d|X",
    b"%(number)d|f|1|2",
    b"%(number)d|FF|1|2",
    b"%(number)d||1",
    b"%(number)d|B|",
    b"%(number)d|B|1",
    b"%(number)d|B\r",
    b"%(number)d|B\r7|B",
    b"%(number)d|B\x00",
    b"%(number)d|F|1",
    b"%(number)d|F|1|2|3",
    b"%(number)d|U",
    b"%(number)d|P|1|-2",
    b"%(number)d|P| 1|2",
    b"%(number)d|P||2",
    b"%(number)d|S|",
    b"%(number)d|S|1|2",
    b"%(number)d|S|1\x00",
    b"%(number)d|S|\xd9\xa1",
    b"%(number)d|S|9223372036854775808",
    b"%(number)d|S|99999999999999999999",
    # without one
    b"",
    b"\r",
    b"|",
    b"|B",
    b"B",
    b"\x00",
    b"+%(number)d|B",
    b"-%(number)d|B",
    b" %(number)d|B",
    b"%(number)d |B",
    b"%(number)d.0|B",
    b"0x%(number)d|B",
    b"1_%(number)d|B",
    b"\xd9\xa1|B",
    b"9223372036854775808|B",
    b"\xff\xfe\xfd",
]

terminators = st.sampled_from([b"\n", b"\n", b"\r\n"])
user_fields = st.builds(
    lambda user, zeros: b"0" * zeros + b"%d" % user,
    st.sampled_from([*USERS, *USERS, 10**18, LARGEST]),
    st.sampled_from([0, 0, 0, 0, 2, 19]),
)


@st.composite
def event_lines(draw: st.DrawFn, number: int, plain: bool = False) -> bytes:
    """A well-formed line with that number; ``plain`` leaves out what the fast way leaves out."""
    kind = draw(st.sampled_from([b"F", b"F", b"U", b"B", b"P", b"S", b"S"]))
    count = {b"B": 0, b"S": 1}.get(kind, 2)
    fields = st.sampled_from([b"%d" % user for user in USERS]) if plain else user_fields
    zeros = 0 if plain else draw(st.sampled_from([0, 0, 0, 0, 1, 20]))
    users = [draw(fields) for _ in range(count)]
    return b"|".join([b"0" * zeros + b"%d" % number, kind, *users]) + draw(terminators)


@st.composite
def malformed_lines(draw: st.DrawFn, number: int) -> bytes:
    """A line that is wrong in one of the ways there are."""
    form = draw(st.sampled_from(MALFORMED))
    return form % {b"number": number} + draw(terminators)


@st.composite
def lines_of_any_kind(draw: st.DrawFn, number: int) -> bytes:
    """A line with that number if it has one: an event as a rule, malformed or too long at times."""
    choice = draw(st.integers(0, 99))
    if choice < 75:
        return draw(event_lines(number))
    if choice < 97:
        return draw(malformed_lines(number))
    size = LINE_LIMIT + draw(st.integers(-2, 2))
    return b"%0*d|B" % (size - 2, number) + draw(terminators)


@st.composite
def numbers(draw: st.DrawFn, first: int, size: int) -> list[int]:
    """The numbers of a stream: shuffled over a window, with repetitions, gaps and jumps."""
    window = draw(st.integers(1, size + 1))
    order = list(range(first, first + size))
    for start in range(0, size, window):
        order[start : start + window] = draw(st.permutations(order[start : start + window]))
    for _ in range(draw(st.integers(0, 6))):
        place = draw(st.integers(0, len(order)))
        if draw(st.booleans()):
            jumps = [max(0, first - 1), first + size + 5, LARGEST]
            order.insert(place, draw(st.sampled_from([*order, *jumps])))
        else:
            del order[place : place + draw(st.integers(1, 3))]
    return order


@st.composite
def streams(draw: st.DrawFn, first: int = 1) -> bytes:
    """A whole stream, half line at the end included."""
    parts: list[bytes] = []
    for number in draw(numbers(first, draw(st.integers(0, 30)))):
        parts.append(draw(lines_of_any_kind(number)))
        if draw(st.integers(0, 9)) == 0:
            parts.append(draw(st.sampled_from(parts)))
    return b"".join(parts) + draw(st.sampled_from([b"", b"", b"7", b"7|B", b"7|B\r"]))


@st.composite
def chunks(draw: st.DrawFn, stream: bytes) -> list[bytes]:
    """The stream in pieces, cut at any bytes."""
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    edges = [0, *cuts, len(stream)]
    return [stream[start:end] for start, end in pairwise(edges)]
