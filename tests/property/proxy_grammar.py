"""What the PROXY header says, by a grammar of its own: one expression a version, and inet_pton."""

from __future__ import annotations

import re
from ipaddress import ip_address
from socket import AF_INET, AF_INET6, inet_pton

V1 = re.compile(
    rb"PROXY (?:(?:(TCP4)|TCP6) ([!-~]+) ([!-~]+) ([0-9]{1,5}) ([0-9]{1,5})"
    rb"|UNKNOWN(?: [^\n]*)?)\r\n"
)
V2 = re.compile(rb"\r\n\r\n\x00\r\nQUIT\n([ !])(.)(.)(.)", re.DOTALL)
STARTS = (b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n")

Said = tuple[int, tuple[str, int] | None]
"""Length of the header, and the address in it."""


def proxy_header(data: bytes) -> Said | str | None:
    """The header with which the data begins, ``bad``, or None if it may be one with more bytes."""
    if not any(data[: len(start)] == start[: len(data)] for start in STARTS):
        return "bad"
    if data[:1] == b"P":
        return _v1(data)
    if len(data) < 16:
        return None
    found = V2.match(data)
    if not found:
        return "bad"
    command, kind, high, low = (field[0] for field in found.groups())
    length = 256 * high + low
    if length > 4096 - 16:
        return "bad"
    is_proxy = command == ord("!")
    least = {0x11: 12, 0x21: 36}.get(kind, 0) if is_proxy else 0
    if (is_proxy and (kind // 16 > 3 or kind % 16 > 2)) or length < least:
        return "bad"
    if len(data) < 16 + length:
        return None
    if not least:
        return 16 + length, None
    wide = (least - 4) // 2
    port = 256 * data[16 + 2 * wide] + data[17 + 2 * wide]
    return 16 + length, (canonical(data[16 : 16 + wide]), port)


def _v1(data: bytes) -> Said | str | None:
    line = data[:107].partition(b"\n")[0] + b"\n"
    if b"\n" not in data[:107]:
        return None if len(data) < 107 else "bad"
    found = V1.fullmatch(line)
    if not found:
        return "bad"
    if not found[2]:
        return len(line), None
    ports = [int(field) for field in found.group(4, 5)]
    if any(
        str(port).encode() != field for port, field in zip(ports, found.group(4, 5), strict=True)
    ):
        return "bad"
    family = AF_INET if found[1] else AF_INET6
    try:
        source, _ = (inet_pton(family, field.decode()) for field in found.group(2, 3))
    except (OSError, ValueError):
        return "bad"
    return (len(line), (canonical(source), ports[0])) if max(ports) < 65536 else "bad"


def canonical(packed: bytes) -> str:
    """The address as text; one of IPv4 that is written as one of IPv6 is one of IPv4."""
    if packed[:12] == bytes(10) + b"\xff\xff" and len(packed) == 16:
        packed = packed[12:]
    return str(ip_address(packed))
