"""Programs that tests need and that pip does not install."""

from __future__ import annotations

import os
import shutil

import pytest


def installed(name: str) -> str:
    """Return the path of a program; without it, fail under CI, else skip the test."""
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"{name} is not installed; .ci/run should have installed it")
        pytest.skip(f"{name} is not installed")
    return found
