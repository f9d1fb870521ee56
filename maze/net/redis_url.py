"""Whether the name of a journal is the URL of a Redis server, or is only meant to be one.

A password may be in it, so what is wrong is said without showing it.
"""

import re

SCHEMES = ("redis", "rediss", "unix")

_LIKE_A_URL = re.compile(r"(?:rediss?|unix):|[a-z][a-z0-9+.-]*:/|//[^/]*@", re.IGNORECASE)


def is_redis_url(text: str) -> bool:
    """Return whether the text begins as the URL of a Redis server does, in upper or lower case."""
    return text.lower().startswith(tuple(f"{scheme}://" for scheme in SCHEMES))


def is_like_url(text: str) -> bool:
    """Return whether the text begins as URLs do, or as one does that is mistyped."""
    return _LIKE_A_URL.match(text) is not None


def not_a_redis_url() -> ValueError:
    """Return the error for a URL that cannot be used."""
    return ValueError(
        "the value (not shown) is not a Redis URL, which begins with redis://, rediss:// or "
        "unix:// and has no whitespace; begin the path of a file with ./ or a single /"
    )


def check_place(text: str) -> None:
    """Raise ValueError if the text begins as URLs do, but is not that of a Redis server."""
    if is_like_url(text) and not is_redis_url(text):
        raise not_a_redis_url()
