"""What is the URL of a Redis server, and what is only meant to be one."""

import pytest

from maze.net.redis_url import check_place, is_redis_url


@pytest.mark.parametrize("text", ["redis://h", "rediss://u:p@h", "unix:///s", "REDIS://h"])
def test_a_url_has_a_scheme_in_any_case(text: str) -> None:
    assert is_redis_url(text)
    check_place(text)


@pytest.mark.parametrize(
    "text",
    [
        "/var/lib/maze/journal",
        "redis",
        "//var/journal",
        "/a:b@c",
        "a:b",
        "./redis:/a",
        "redis/a:b@c",
    ],
)
def test_a_file_is_no_redis_url(text: str) -> None:
    assert not is_redis_url(text)
    check_place(text)


@pytest.mark.parametrize(
    "text",
    [
        "redis:/u:secret@h",
        "Redis:u:secret@h",
        "rediss:u",
        "unix:/s",
        "reds://:secret@h",
        "//u:secret@h",
    ],
)
def test_what_looks_like_a_url_is_refused_and_not_shown(text: str) -> None:
    assert not is_redis_url(text)
    with pytest.raises(ValueError, match="begins with redis://, rediss:// or unix://") as error:
        check_place(text)
    assert "secret" not in str(error.value)
