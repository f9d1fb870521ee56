"""A fake operating system with a limit on open files."""

import resource

import pytest

Limits = tuple[int, int]


class System:
    """Replaces getrlimit and setrlimit."""

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
