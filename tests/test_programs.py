"""A program that is missing is said in one line."""

from __future__ import annotations

import pytest
from programs import installed


def test_a_program_that_is_missing_skips_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"^no-such-program is not installed$"):
        installed("no-such-program")


def test_under_ci_no_test_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"\.ci/run should have installed it"):
        installed("no-such-program")


def test_a_program_that_is_there_has_a_path() -> None:
    assert installed("sh").endswith("/sh")
