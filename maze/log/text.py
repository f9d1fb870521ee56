"""The text form of log lines, and of received bytes in them."""

import structlog

ESCAPED_BYTES = 80
"""Maximum received bytes shown in a log line."""


def render_text(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """Return ``time level event key=value ...``; a traceback or stack follows on its own lines."""
    head = f"{event.pop('timestamp')} {event.pop('level'):<7} {event.pop('event')}"
    blocks = [event.pop(key) for key in ("stack", "exception") if key in event]
    pairs = "".join(f" {key}={_quoted(value)}" for key, value in event.items())
    return "\n".join([head + pairs, *blocks])


def _quoted(value: object) -> str:
    text = str(value)
    if not text.isprintable():
        return repr(text)
    if text and not any(character in " \"'=" for character in text):
        return text
    return repr(text).replace("\\\\", "\\")  # printable text may be escaped already


def escaped(line: bytes) -> str:
    """Return received bytes as printable ASCII, escaped and shortened for a log line."""
    text = line[:ESCAPED_BYTES].decode("latin-1").encode("unicode_escape").decode("ascii")
    return text if len(line) <= ESCAPED_BYTES else f"{text}... ({len(line)} bytes)"
