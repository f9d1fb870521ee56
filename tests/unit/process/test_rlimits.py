"""The limit on open files is raised, on a fake operating system."""

import pytest
from structlog.testing import capture_logs

from maze.process.rlimits import raise_descriptor_limit

from ..fake_system import System


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch, 1024, 4096)
    raise_descriptor_limit()
    assert system.limits == (4096, 4096)


def test_a_soft_limit_equal_to_the_hard_one_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch, 4096, 4096)
    raise_descriptor_limit()
    assert system.calls == 0


@pytest.mark.parametrize("error", [OSError("not permitted"), ValueError("not permitted")])
def test_a_refused_increase_is_a_warning(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch, 1024, 4096)
    system.error = error
    with capture_logs() as entries:
        raise_descriptor_limit()
    assert entries == [
        {
            "event": "descriptor_limit_not_raised",
            "log_level": "warning",
            "limit": 1024,
            "error": "not permitted",
        }
    ]
