"""Addresses of Redis servers, and what is shown of them."""

from __future__ import annotations

import re

import pytest

from maze.journal.places import RedisPlace
from maze.journal.redis_address import RedisAddress


@pytest.mark.parametrize(
    ("url", "endpoint", "database"),
    [
        ("redis://redis.example", ("redis.example", 6379), 0),
        ("redis://redis.example:7000/", ("redis.example", 7000), 0),
        ("redis://10.0.0.1/3", ("10.0.0.1", 6379), 3),
        ("redis://[::1]:7000/3", ("::1", 7000), 3),
        ("unix:///run/redis/socket", "/run/redis/socket", 0),
        ("unix:///run/redis/socket?db=2", "/run/redis/socket", 2),
    ],
)
def test_a_server_has_an_endpoint_and_a_database(url: str, endpoint: object, database: int) -> None:
    address = RedisAddress.parse(url)
    assert (address.endpoint, address.database) == (endpoint, database)
    assert (address.user, address.password, address.tls) == (None, None, False)


def test_user_and_password_are_decoded_and_never_shown() -> None:
    for url in ("redis://u%40:p%2F%23@h", "unix://u%40:p%2F%23@/socket"):
        address = RedisAddress.parse(url)
        assert (address.user, address.password) == ("u@", "p/#")
        assert "p/#" not in f"{address} {address!r}"
        assert "u@" not in str(address)
    assert RedisAddress.parse("redis://:p@h").user is None


def test_an_address_is_shown_as_it_is_written() -> None:
    assert str(RedisAddress.parse("REDISS://h")) == "rediss://h:6379"
    for url in ("redis://h:6379", "rediss://h:1/2", "unix:///s?db=3", "redis://[::1]:2"):
        assert str(RedisAddress.parse(url)) == url


def test_tls_has_files() -> None:
    address = RedisAddress.parse("rediss://h", ca="ca", certificate="cert", key="key")
    assert address.tls
    assert (address.ca, address.certificate, address.key) == ("ca", "cert", "key")


def test_with_sentinels_the_host_is_the_name_of_the_master() -> None:
    address = RedisAddress.parse("redis://:p@myMaster/1", sentinels="a:1, b,[::1]:3")
    assert address.master == "myMaster"
    assert address.sentinels == (("a", 1), ("b", 26379), ("::1", 3))
    assert str(address) == "redis://myMaster/1"


@pytest.mark.parametrize(
    ("url", "sentinels", "said"),
    [
        ("http://h", "", "begins with redis://"),
        ("redis://", "", "no host"),
        ("redis://h:secret", "", "host or port"),
        ("redis://h:99999", "", "host or port"),
        ("redis://[h", "", "host or port"),
        ("redis://h/one", "", "is a number"),
        ("redis://h?db=1", "", "no ? or #"),
        ("redis://:secret#@h", "", "host or port"),
        ("unix://host/socket", "", "unix:///path"),
        ("unix://", "", "unix:///path"),
        ("unix://:12/secret@/socket", "", "unix:///path"),
        ("unix:///s?database=1", "", "no parameter except db"),
        ("unix:///s", "a", "redis:// or rediss://"),
        ("redis://m:1", "a", "name of the master"),
        ("redis://m", "a:x", "'a:x' is not the host"),
        ("redis://m", "a,b/c", "'b/c' is not the host"),
    ],
)
def test_what_is_wrong_is_said_without_the_password(url: str, sentinels: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)) as error:
        RedisAddress.parse(url, sentinels=sentinels)
    assert "secret" not in str(error.value)


def test_certificates_need_tls() -> None:
    with pytest.raises(ValueError, match="rediss://"):
        RedisAddress.parse("redis://h", ca="ca")
    with pytest.raises(ValueError, match="key without a certificate"):
        RedisAddress.parse("rediss://h", key="key")


@pytest.mark.parametrize(
    ("url", "sentinels"), [("redis://u:p@h:1/2", ""), ("unix:///s", ""), ("redis://m", "a,b:2")]
)
def test_a_place_is_handed_on_as_it_is(url: str, sentinels: str) -> None:
    place = RedisPlace(RedisAddress.parse(url, sentinels=sentinels), "other")
    again = RedisPlace.decode(place.encode())
    assert vars(again) == vars(place)
