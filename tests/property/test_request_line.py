"""Properties of the first line's check, on bytes from anywhere."""

import re
import string

from hypothesis import given
from hypothesis import strategies as st

from maze.core import is_http_request

from .streams import chunks, streams

LIMIT = 40
TOKEN = (string.ascii_letters + string.digits + "!#$%&'*+-.^_`|~").encode()
request_bytes = st.lists(
    st.sampled_from([b"GET", b"PRI", b"1|B", b" ", b"/", b"*", b"HTTP/1.1", b"\r", b"\n", b"\x00"])
).map(b"".join)
any_bytes = st.one_of(st.binary(max_size=100), request_bytes, streams())


def by_the_grammar(start: bytes) -> bool | None:
    """Written apart from the core's: a line at a time, and a field at a time."""
    empty = len(re.match(b"[\r\n]*", start)[0])  # type: ignore[index]
    line, ended, _ = start[empty:].partition(b"\n")
    content = line[:-1] if line.endswith(b"\r") else line
    if empty > LIMIT or len(content) > LIMIT:
        return False
    if not ended:
        return None
    method, blank, rest = content.partition(b" ")
    _target, version_blank, version = rest.rstrip(b" \t").rpartition(b" ")
    return (
        bool(blank and version_blank and method and version)
        and all(byte in TOKEN for byte in method)
        and version in {b"HTTP/" + number for number in _versions()}
    )


def _versions() -> list[bytes]:
    digits = [b"%d" % digit for digit in range(10)]
    return digits + [major + b"." + minor for major in digits for minor in digits]


@given(start=any_bytes)
def test_the_answer_is_the_grammars(start: bytes) -> None:
    assert is_http_request(start, LIMIT) == by_the_grammar(start)


@given(start=any_bytes, data=st.data())
def test_an_answer_is_final(start: bytes, data: st.DataObject) -> None:
    came = b""
    answers = []
    for piece in data.draw(chunks(start)):
        came += piece
        answers.append(is_http_request(came, LIMIT))
    decided = [answer for answer in answers if answer is not None]
    assert answers == [None] * (len(answers) - len(decided)) + decided
    assert len(set(decided)) <= 1
