"""Servers that are started by way of the shell, which changes something for them first."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def wrap_servers(monkeypatch: pytest.MonkeyPatch, folder: Path, shell: str) -> None:
    """From here on ``Child`` starts servers with this before their command."""
    wrapper = folder / "wrapper"
    wrapper.write_text(f'#!/bin/sh\n{shell} {sys.executable} "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(wrapper))
