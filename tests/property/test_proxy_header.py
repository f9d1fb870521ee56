"""The parser of PROXY headers against a grammar, on headers and on what is nearly one."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from maze.core import (
    MAX_PROXY_HEADER_BYTES,
    ProxyHeaderError,
    is_proxy_header,
    parse_proxy_header,
)

from .proxy_grammar import STARTS, Said, canonical, proxy_header

ports = st.integers(0, 65535)
hosts4 = st.ip_addresses(v=4)
hosts6 = st.ip_addresses(v=6) | hosts4.map(lambda host: IPv6Address(f"::ffff:{host}"))


@st.composite
def headers(draw: st.DrawFn) -> tuple[bytes, tuple[str, int] | None]:
    """A header of a proxy, and the address in it."""
    source, target = draw(st.tuples(hosts4, hosts4) | st.tuples(hosts6, hosts6))
    near, far = draw(ports), draw(ports)
    said = (canonical(source.packed), near)
    if draw(st.booleans()):
        if draw(st.booleans()):
            rest = draw(st.binary(max_size=80)).replace(b"\n", b"")
            return b"PROXY UNKNOWN" + draw(st.sampled_from([b"", b" " + rest])) + b"\r\n", None
        return f"PROXY TCP{source.version} {source} {target} {near} {far}\r\n".encode(), said
    content = source.packed + target.packed + struct.pack("!HH", near, far)
    is_known = draw(st.booleans())
    kind = 0x11 if isinstance(source, IPv4Address) else 0x21
    if not is_known:
        kind = draw(st.sampled_from([0x00, 0x31, 0x12]))
    content += draw(st.binary(max_size=60))
    return _v2(0x21, kind, content), said if is_known else None


def _v2(command: int, kind: int, content: bytes) -> bytes:
    return STARTS[1] + struct.pack("!BBH", command, kind, len(content)) + content


@st.composite
def changed(draw: st.DrawFn) -> bytes:
    """A header of which a byte is another one, or is missing, or comes twice."""
    data = draw(headers())[0]
    at = draw(st.integers(0, len(data) - 1))
    byte = draw(st.sampled_from([b"", data[at : at + 1] * 2]) | st.binary(min_size=1, max_size=1))
    return data[:at] + byte + data[at + 1 :]


anything = (
    st.binary(max_size=200)
    | st.builds(bytes.__add__, st.sampled_from(STARTS), st.binary(max_size=200))
    | st.builds(_v2, st.integers(0, 255), st.integers(0, 255), st.binary(max_size=80))
    | changed()
)


def parsed(data: bytes) -> Said | str | None:
    try:
        return parse_proxy_header(data)
    except ProxyHeaderError:
        return "bad"


@given(headers(), st.binary(max_size=40))
def test_a_header_is_read_and_what_follows_is_left(
    header: tuple[bytes, tuple[str, int] | None], rest: bytes
) -> None:
    data, address = header
    assert parsed(data + rest) == (len(data), address)
    assert is_proxy_header(data)


@given(headers())
def test_more_is_needed_until_the_header_is_complete(
    header: tuple[bytes, tuple[str, int] | None],
) -> None:
    data, _ = header
    assert [parsed(data[:end]) for end in range(len(data))] == [None] * len(data)


@given(anything)
def test_what_is_a_header_is_what_the_grammar_says(data: bytes) -> None:
    assert parsed(data) == proxy_header(data)
    begins = [start for start in STARTS if data.startswith(start)]
    may_begin = any(start.startswith(data) for start in STARTS)
    assert is_proxy_header(data) == (True if begins else None if may_begin else False)


@given(anything)
def test_only_a_bounded_number_of_bytes_is_ever_waited_for(data: bytes) -> None:
    if parsed(data) is None:
        filled = data + bytes(MAX_PROXY_HEADER_BYTES - len(data))
        assert parsed(filled) is not None
