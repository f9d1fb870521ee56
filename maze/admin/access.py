"""Who may ask the admin port for what.

Pages of other sites must not read or change anything here, even in a browser on
the operator's machine. Without a token the Host header must name this machine,
which defeats DNS rebinding. A change must be requested by the live page or from
outside a browser.
"""

from __future__ import annotations

import hmac
import re
from enum import IntEnum
from typing import Any

from maze.admin.responses import HttpError
from maze.settings.combinations import is_loopback
from maze.settings.options import Settings


class Access(IntEnum):
    """What a request must present; each level also needs what the lower ones need."""

    PROBE = 0
    """Nothing. A probe says whether the server runs and is ready, and no more."""
    PAGE = 1
    """A Host header that names this machine, unless there is a token. The page's static files."""
    READ = 2
    """The token, if there is one."""
    CHANGE = 3
    """No sign that a page of another origin makes the browser send the request."""


def check_access(access: Access, environ: dict[str, Any], settings: Settings) -> None:
    """Raise HttpError unless the request may have that access."""
    if access >= Access.PAGE:
        _check_host(environ, settings)
    if access >= Access.READ:
        _check_token(environ, settings)
    if access >= Access.CHANGE:
        _check_origin(environ)


def may_read(environ: dict[str, Any], settings: Settings) -> bool:
    """Return whether the request may read the status."""
    try:
        check_access(Access.READ, environ, settings)
    except HttpError:
        return False
    return True


def _check_host(environ: dict[str, Any], settings: Settings) -> None:
    """Refuse a Host that may belong to a DNS rebinding attack."""
    host = environ.get("HTTP_HOST", "")
    name = host.rpartition(":")[0] if re.search(r":[0-9]+$", host) else host
    name = name.removeprefix("[").removesuffix("]")
    if settings.admin_token or is_loopback(name) or name == settings.admin_host:
        return
    raise HttpError(421, "the Host header must name this machine, for example localhost")


def _check_token(environ: dict[str, Any], settings: Settings) -> None:
    token = settings.admin_token
    if not token:
        return
    given = environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace")
    if not hmac.compare_digest(given, b"Bearer " + token.encode()):
        raise HttpError(
            401,
            "the token is missing or wrong; send the header Authorization: Bearer TOKEN",
            ("WWW-Authenticate", "Bearer"),
        )


def _check_origin(environ: dict[str, Any]) -> None:
    """Refuse a request that a page of another origin makes the browser send."""
    origin = environ.get("HTTP_ORIGIN")
    own = {f"{scheme}://{environ.get('HTTP_HOST', '')}" for scheme in ("http", "https")}
    site = environ.get("HTTP_SEC_FETCH_SITE", "none")
    if (origin is not None and origin not in own) or site not in ("same-origin", "none"):
        raise HttpError(403, "requests from pages of another origin are refused")
