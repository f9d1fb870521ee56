"""Recognises connections that begin with an HTTP request line.

A web page can make a browser connect to any port of this machine, and chooses the body of the
request. Therefore nothing after the request line may be decoded.
"""

import re

_REQUEST_LINE = re.compile(
    rb"[!#-'*+.^_`|~0-9A-Za-z-]+ .* HTTP/[0-9](?:\.[0-9])?[ \t]*\r?", re.DOTALL
)
"""Method (a token), target and version: RFC 9112, section 3."""


def is_http_request(start: bytes, limit: int) -> bool | None:
    """Return whether a connection's first bytes are an HTTP request; None if more are needed.

    Empty lines before the request are skipped (RFC 9112, section 2.2). If the line, or the empty
    lines before it, are longer than ``limit`` bytes, return False.
    """
    line = start.lstrip(b"\r\n")
    if len(start) - len(line) > limit:
        return False
    line, ended, _ = line.partition(b"\n")
    if len(line.removesuffix(b"\r")) > limit:
        return False
    return _REQUEST_LINE.fullmatch(line) is not None if ended else None
