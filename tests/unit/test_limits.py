"""Raising the limit of open files, on a system that is made up."""

import resource

import pytest
from structlog.testing import capture_logs

from maze.limits import raise_descriptor_limit

Limits = tuple[int, int]


class System:
    """Stands in for the operating system."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
        self.limits: Limits = (soft, hard)
        self.error: Exception | None = None
        self.calls = 0
        monkeypatch.setattr(resource, "getrlimit", self.getrlimit)
        monkeypatch.setattr(resource, "setrlimit", self.setrlimit)

    def getrlimit(self, what: int) -> Limits:
        assert what == resource.RLIMIT_NOFILE
        return self.limits

    def setrlimit(self, what: int, wanted: Limits) -> None:
        assert what == resource.RLIMIT_NOFILE
        self.calls += 1
        if self.error:
            raise self.error
        self.limits = wanted


def test_the_soft_limit_is_raised_to_the_hard_one(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch, 1024, 4096)
    raise_descriptor_limit()
    assert system.limits == (4096, 4096)


def test_a_limit_that_cannot_be_raised_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    system = System(monkeypatch, 4096, 4096)
    raise_descriptor_limit()
    assert system.calls == 0


@pytest.mark.parametrize("error", [OSError("not permitted"), ValueError("not permitted")])
def test_a_system_that_refuses_is_a_warning_and_no_more(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
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
