"""Tuning of the collector and the allocator; docs/performance.md has the gains."""

import ctypes
import gc
from collections.abc import Iterator

import pytest

from maze.process import allocator


class Library:
    """A C library that records the options set with mallopt."""

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


def test_allocator_and_collector_are_tuned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    library = Library()
    monkeypatch.setattr(ctypes, "CDLL", lambda _: library)
    allocator.tune_memory()
    assert library.options == {-1: allocator.KEPT_BYTES, -3: allocator.MAPPED_BYTES, 1: 0}
    assert gc.get_threshold()[0] == allocator.GC_THRESHOLD


def test_a_library_without_mallopt_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    allocator.tune_memory()
    assert gc.get_threshold()[0] == allocator.GC_THRESHOLD


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="the library has no mallopt")
def test_the_library_accepts_all_values() -> None:
    mallopt = ctypes.CDLL(None).mallopt
    assert mallopt(-1, allocator.KEPT_BYTES) == 1
    assert mallopt(-3, allocator.MAPPED_BYTES) == 1
    assert mallopt(1, allocator.FASTBIN_BYTES) == 1
