"""The protocol's grammar for the model, a line at a time; written apart from the core's."""

import re

USER_FIELDS = {b"F": 2, b"U": 2, b"B": 0, b"P": 2, b"S": 1}


def number(field: bytes) -> int:
    """The number, -1 if it is none."""
    return int(field) if re.fullmatch(b"[0-9]+", field) and int(field) < 2**63 else -1


def parse(line: bytes) -> tuple[str, int, bytes, list[int]]:
    """What is wrong with a line, if anything; its sequence number, type and users."""
    first, kind, *rest = re.sub(b"\r?\n$", b"|", line).split(b"|")
    users = [number(field) for field in rest[:-1]]
    if number(first) < 0:
        return "bad_sequence", -1, kind, users
    if rest and kind not in USER_FIELDS:
        return "bad_type", number(first), kind, users
    if not rest or len(users) != USER_FIELDS[kind]:
        return "bad_fields", number(first), kind, users
    return "bad_user" if -1 in users else "", number(first), kind, users


def split(data: bytes, limit: int) -> tuple[list[bytes], bytes, bool]:
    """The whole lines, the half line behind them, and false if one of all is too long."""
    lines = re.findall(b"[^\n]*\n|[^\n]+", data)
    for index, line in enumerate(lines):
        if len(re.sub(b"\r?\n?$", b"", line)) > limit:
            return lines[:index], b"", False
    half = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
    return lines, half, True
