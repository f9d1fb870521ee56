"""Servers started by a shell command, which can change their environment first."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


def wrap_servers(monkeypatch: pytest.MonkeyPatch, folder: Path, shell: str) -> None:
    """Make ``Child`` put this shell command before the command of each server that it starts."""
    wrapper = folder / "wrapper"
    wrapper.write_text(f'#!/bin/sh\n{shell} {sys.executable} "$@"\n')
    wrapper.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(wrapper))
