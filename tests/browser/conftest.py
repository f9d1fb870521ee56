"""Fixtures: a browser, a server with a page, and visits to it."""

from .pages import browser, serve, site, visit

__all__ = ["browser", "serve", "site", "visit"]
