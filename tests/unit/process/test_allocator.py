"""What is set for the collector and the allocator; what it gains is in docs/performance.md."""

import ctypes
import gc
from collections.abc import Iterator

import pytest

from maze.process import allocator as memory


class Library:
    """A C library that notes what is set; one of another kind has no mallopt."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}

    def mallopt(self, option: int, value: int) -> int:
        self.options[option] = value
        return 1


@pytest.fixture(autouse=True)
def _collector_as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


def test_freed_memory_is_kept_and_the_collector_runs_seldom(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    memory.tune_memory()
    assert library.options == {-1: memory.KEPT_BYTES, -3: memory.MAPPED_BYTES, 1: 0}
    assert gc.get_threshold()[0] == memory.GC_THRESHOLD


def test_a_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory.tune_memory()
    assert gc.get_threshold()[0] == memory.GC_THRESHOLD


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the library has no mallopt")
def test_the_library_takes_all_values() -> None:
    mallopt = ctypes.CDLL(None).mallopt
    assert mallopt(-1, memory.KEPT_BYTES) == 1
    assert mallopt(-3, memory.MAPPED_BYTES) == 1
    assert mallopt(1, memory.FASTBIN_BYTES) == 1
