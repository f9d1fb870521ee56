"""Fixtures: a browser, a server with a live page, and visits to the page."""

from .pages import browser, serve, site, visit

__all__ = ["browser", "serve", "site", "visit"]
