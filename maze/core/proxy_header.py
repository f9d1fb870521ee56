"""Parses the PROXY header, in which a proxy says for whom it has connected, in version 1 or 2.

The header comes before everything else on a connection, TLS included. It may arrive in pieces, and
together with what follows it, so a parser is given everything received so far, and says where the
header ends. "The PROXY protocol" of HAProxy is the specification.

The package for this on PyPI, proxy-protocol, is not used: it does not say where a header ends, sets
no limit on its length, and raises ``struct.error`` and other errors on malformed ones.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

MAX_V1_BYTES = 107
"""Longest header of version 1, its line terminator included, as the protocol says."""

MAX_PROXY_HEADER_BYTES = 4096
"""Longest header of version 2. The protocol allows 64 KiB; HAProxy sends 28 to 52 bytes, and a few
hundred if it describes the client's certificate."""

_V1_START = b"PROXY "
_V2_START = b"\r\n\r\n\0\r\nQUIT\n"

_V1 = re.compile(
    rb"PROXY (TCP4|TCP6) ([0-9A-Fa-f.:]+) ([0-9A-Fa-f.:]+) (0|[1-9]\d{0,4}) (0|[1-9]\d{0,4})"
)
"""Family, source and destination address, source and destination port."""

_V2 = struct.Struct("!12sBBH")
"""Start, version and command, family and transport, length of what follows."""
_LOCAL, _PROXY = 0x20, 0x21
"""Version 2 with the command."""
_ADDRESSES = {0x11: struct.Struct("!4s4sHH"), 0x21: struct.Struct("!16s16sHH")}
"""Source and destination address, source and destination port, of TCP over IPv4 and over IPv6."""
_MAX_FAMILY, _MAX_TRANSPORT = 3, 2
"""Families are unknown, IPv4, IPv6 and Unix; transports are unknown, stream and datagram."""


class ProxyHeaderError(ValueError):
    """What was received is no PROXY header; the message says why."""


class ProxyHeader(NamedTuple):
    """A PROXY header."""

    size: int
    """Length in bytes; what follows is not part of the header."""
    address: tuple[str, int] | None
    """Address and port for which the proxy has connected. None if the proxy connects for itself, as
    it does in health checks, does not know them, or names a protocol other than TCP."""


def is_proxy_header(start: bytes) -> bool | None:
    """Return whether a connection with this start has a PROXY header, perhaps a malformed one.

    Return None if more bytes are needed to tell.
    """
    if start.startswith((_V1_START, _V2_START)):
        return True
    return None if _V1_START.startswith(start) or _V2_START.startswith(start) else False


def parse_proxy_header(received: bytes) -> ProxyHeader | None:
    """Return the PROXY header with which ``received`` begins; None if more bytes are needed.

    All bytes belong to the header as long as more are needed. There are then fewer than
    MAX_PROXY_HEADER_BYTES. Raise ProxyHeaderError.
    """
    is_header = is_proxy_header(received)
    if is_header is None:
        return None
    if not is_header:
        raise ProxyHeaderError("the connection does not begin with a PROXY header")
    return _parse_v1(received) if received.startswith(_V1_START) else _parse_v2(received)


def _parse_v1(received: bytes) -> ProxyHeader | None:
    end = received.find(b"\n", 0, MAX_V1_BYTES)
    if end < 0:
        if len(received) >= MAX_V1_BYTES:
            raise _too_long(MAX_V1_BYTES)
        return None
    line, size = received[:end], end + 1
    if re.fullmatch(rb"PROXY UNKNOWN(?: .*)?\r", line, re.DOTALL):
        return ProxyHeader(size, None)
    fields = _V1.fullmatch(line.removesuffix(b"\r"))
    if not fields or not line.endswith(b"\r"):
        raise _malformed()
    family, *addresses = (field.decode() for field in fields.groups()[:3])
    ports = [int(field) for field in fields.groups()[3:]]
    parse: type[IPv4Address | IPv6Address] = IPv4Address if family == "TCP4" else IPv6Address
    try:
        source, _ = (parse(address) for address in addresses)
    except ValueError:
        raise _malformed() from None
    if max(ports) > 0xFFFF:
        raise _malformed()
    return ProxyHeader(size, (_text(source), ports[0]))


def _parse_v2(received: bytes) -> ProxyHeader | None:
    if len(received) < _V2.size:
        return None
    _, command, protocol, length = _V2.unpack_from(received)
    size = _V2.size + length
    if size > MAX_PROXY_HEADER_BYTES:
        raise _too_long(MAX_PROXY_HEADER_BYTES)
    if command not in {_LOCAL, _PROXY}:
        raise _malformed()
    addresses = _ADDRESSES.get(protocol) if command == _PROXY else None
    if command == _PROXY and (protocol >> 4 > _MAX_FAMILY or protocol & 15 > _MAX_TRANSPORT):
        raise _malformed()
    if addresses and length < addresses.size:
        raise _malformed()
    if len(received) < size:
        return None
    if not addresses:
        return ProxyHeader(size, None)
    source, _, port, _ = addresses.unpack_from(received, _V2.size)
    return ProxyHeader(size, (_text(ip_address(source)), port))


def _text(address: IPv4Address | IPv6Address) -> str:
    """Return an address as text, in one form only: limits count by it."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(address)


def _malformed() -> ProxyHeaderError:
    return ProxyHeaderError("the PROXY header is malformed")


def _too_long(limit: int) -> ProxyHeaderError:
    return ProxyHeaderError(f"the PROXY header is longer than {limit} bytes")
