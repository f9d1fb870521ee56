"""A graph that is written and loaded again is the same graph, whichever version does either."""

from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze.core import graph as pure

VERSIONS: list[ModuleType | Any] = [pure]
try:
    from maze.core._compiled import graph as compiled
except ImportError:
    pass
else:
    VERSIONS.append(compiled)

LARGEST = 2**63 - 1
users = st.one_of(st.integers(0, 9), st.integers(0, LARGEST))
follows = st.lists(st.tuples(users, users), max_size=60)
online = st.sets(users, max_size=5)
versions = pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.__name__)


@given(
    follows=follows, undone=follows, online=st.sets(users, max_size=5), max_bytes=st.integers(24)
)
@pytest.mark.parametrize("other", VERSIONS, ids=lambda version: version.__name__)
@versions
def test_each_version_loads_what_either_wrote(
    version: Any,
    other: Any,
    follows: list[tuple[int, int]],
    undone: list[tuple[int, int]],
    online: set[int],
    max_bytes: int,
) -> None:
    graph, again = version.FollowGraph(at_once=2), other.FollowGraph()
    for user in online:
        graph.connect(version.Recipient(user))
    for follow in follows:
        graph.follow(*follow)
    for follow in undone:
        graph.unfollow(*follow)
    expected: dict[int, set[int]] = {}
    for user, followed in set(follows) - set(undone):
        expected.setdefault(user, set()).add(followed)
    chunks = list(graph.chunks(min(max_bytes, 2**20)))
    assert all(24 <= len(chunk) <= max_bytes for chunk in chunks)
    for chunk in chunks:
        again.load(chunk)
    again._check()
    assert again.users == len(expected)
    assert again.follows == sum(map(len, expected.values()))
    assert all(again.following(user) == followed for user, followed in expected.items())


@given(follows=follows, later=follows, bounds=st.tuples(*[st.integers(0, 12)] * 3))
@versions
def test_bounds_apply_to_later_follows_alone(
    version: Any,
    follows: list[tuple[int, int]],
    later: list[tuple[int, int]],
    bounds: tuple[int, int, int],
) -> None:
    graph, again = version.FollowGraph(), version.FollowGraph(0, 0, 0)
    expected: dict[int, set[int]] = {}
    for user, followed in follows:
        graph.follow(user, followed)
        expected.setdefault(user, set()).add(followed)
    for chunk in graph.chunks():
        again.load(chunk)
    again.set_bounds(*bounds)
    for user, followed in later:
        has = expected.get(user, set())
        fits = (
            sum(map(len, expected.values())) < bounds[1]
            and len(has) < bounds[2]
            and (len(expected) < bounds[0] or bool(has))
        )
        again.follow(user, followed)
        if fits:
            expected.setdefault(user, set()).add(followed)
    assert again.users == len(expected)
    assert all(again.following(user) == followed for user, followed in expected.items())


integers = st.one_of(st.integers(-1, 5), st.integers(-(2**63), LARGEST))


@given(chunk=st.one_of(st.binary(max_size=80), st.lists(integers, max_size=12)))
def test_both_versions_accept_the_same_chunks(chunk: bytes | list[int]) -> None:
    if isinstance(chunk, list):
        chunk = b"".join(integer.to_bytes(8, "little", signed=True) for integer in chunk)
    results: list[object] = []
    for version in VERSIONS:
        graph = version.FollowGraph()
        try:
            graph.load(chunk)
        except ValueError:
            results.append(None)
        else:
            results.append({user: graph.following(user) for user in graph._users()})
        graph._check()
    assert results[1:] == results[:-1]
