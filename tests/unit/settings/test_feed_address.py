"""The address of a feed, as an option gives it."""

import pytest

from maze.settings.feed_address import FeedAddress, feed_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("none", None),
        ("127.0.0.1:9000", FeedAddress("127.0.0.1", 9000)),
        ("ingest.test:0", FeedAddress("ingest.test", 0)),
        (" localhost:65535 ", FeedAddress("localhost", 65535)),
        ("[::1]:9000", FeedAddress("::1", 9000)),
        ("unix:/run/maze/feed", FeedAddress("unix:/run/maze/feed", 0)),
        ("unix:feed:1", FeedAddress("unix:feed:1", 0)),
    ],
)
def test_an_address_is_parsed(text: str, address: FeedAddress | None) -> None:
    assert feed_address(text) == address


@pytest.mark.parametrize("text", ["127.0.0.1:9000", "[::1]:9000", "unix:/run/maze/feed"])
def test_an_address_is_shown_as_it_is_given(text: str) -> None:
    assert str(feed_address(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        *("", "localhost", "9000", ":9000", "[]:9000", "localhost:", "localhost:x"),
        *("localhost:65536", "localhost:-1", "two words:9000", "unix:", "unix:two words", "None"),
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not none, HOST:PORT or unix:PATH"):
        feed_address(text)
