"""Values as people write them."""

from collections.abc import Callable
from ipaddress import ip_network

import pytest

from maze.settings.option_types import (
    ANY_NAME,
    FREE_PORT,
    choice,
    duration,
    file,
    host,
    journal,
    names,
    or_none,
    peer_ranges,
    port_or_free,
    secret,
    size,
    whole,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10ms", 0.01),
        ("500ms", 0.5),
        ("0s", 0),
        ("10s", 10),
        ("1.5s", 1.5),
        ("2m", 120),
        ("1h", 3600),
        (" 10 s ", 10),
        ("007s", 7),
    ],
)
def test_a_time_is_in_seconds(text: str, seconds: float) -> None:
    assert duration("0s", "24h")(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("1B", 1),
        ("1kB", 1000),
        ("1KiB", 1024),
        ("1MB", 1000**2),
        ("1MiB", 1024**2),
        ("1GB", 1000**3),
        ("1GiB", 1024**3),
        ("1024GiB", 1024**4),
        ("1.5KiB", 1536),
        (" 4 KiB ", 4096),
    ],
)
def test_an_amount_of_memory_is_in_whole_bytes(text: str, count: int) -> None:
    amount = size("1B", "1024GiB")(text)
    assert amount == count
    assert isinstance(amount, int)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "10",
        "s",
        "10 10s",
        "-1s",
        "+1s",
        "1,5s",
        ".5s",
        "1.s",
        "1_0s",
        "10S",
        "10sec",
        "1d",
        "inf",
        "1e3s",
        "10s\n10s",
        "\u0661s",
        "nan s",
        "10  s",
    ],
)
def test_a_time_without_its_unit_or_otherwise_wrong_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a time: .* one of the units ms, s, m, h, for"):
        duration("0s", "1h")(text)


@pytest.mark.parametrize(
    "text", ["", "4096", "KiB", "-1B", "4kib", "4KB", "4 K", "4Kb", "1TiB", "0x1B"]
)
def test_an_amount_without_its_unit_or_otherwise_wrong_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a size: .* one of the units B, kB, "):
        size("0B", "1GiB")(text)


@pytest.mark.parametrize("text", ["10ms", "1s", "60m", "1h", "3600s"])
def test_the_bounds_of_a_time_belong_to_it(text: str) -> None:
    assert duration("10ms", "1h")(text)


@pytest.mark.parametrize("text", ["9ms", "0s", "3601s", "61m", "9" * 400 + "h"])
def test_a_time_out_of_its_bounds_is_refused_and_they_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not between 10ms and 1h"):
        duration("10ms", "1h")(text)


@pytest.mark.parametrize(("text", "seconds"), [("none", None), (" NONE ", None), ("2s", 2.0)])
def test_a_time_can_be_none(text: str, seconds: float | None) -> None:
    assert or_none(duration("1s", "10s"))(text) == seconds


@pytest.mark.parametrize("text", ["no", "11s", "0s"])
def test_the_error_of_a_time_that_can_be_none_says_so(text: str) -> None:
    with pytest.raises(ValueError, match="none turns it off"):
        or_none(duration("1s", "10s"))(text)


@pytest.mark.parametrize("text", ["64B", "1KiB", "1MiB", "1024KiB"])
def test_the_bounds_of_an_amount_belong_to_it(text: str) -> None:
    assert size("64B", "1MiB")(text)


@pytest.mark.parametrize("text", ["63B", "63.9B", "1025KiB", "2MiB"])
def test_an_amount_out_of_its_bounds_is_refused_and_they_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not between 64B and 1MiB"):
        size("64B", "1MiB")(text)


@pytest.mark.parametrize(
    ("text", "number"), [("1", 1), ("9090", 9090), (" 7 ", 7), ("10_000", 10_000)]
)
def test_a_whole_number(text: str, number: int) -> None:
    assert whole(1, 10_000)(text) == number


def test_a_whole_number_is_exact_however_large() -> None:
    assert whole(0, 2**63 - 1)(str(2**63 - 1)) == 2**63 - 1


@pytest.mark.parametrize(
    "text", ["", "-1", "+1", "1.0", "1e3", "0x10", "ten", "1 0", "\u0661", "\u00b2", "0", "10001"]
)
def test_anything_else_is_no_whole_number_within_bounds(text: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number from 1 to 10000"):
        whole(1, 10_000)(text)


@pytest.mark.parametrize("text", ["skip", "SKIP", " Skip "])
def test_a_choice_whatever_its_case(text: str) -> None:
    assert choice("skip", "fail")(text) == "skip"


@pytest.mark.parametrize("text", ["", "ski", "skip fail", "other"])
def test_another_word_is_no_choice_and_the_words_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not one of skip, fail"):
        choice("skip", "fail")(text)


@pytest.mark.parametrize(
    "text", ["127.0.0.1", "::1", "0.0.0.0", "example.test", "::", "unix:/run/maze"]
)
def test_a_host_is_a_name_or_an_address(text: str) -> None:
    assert host(f" {text} ") == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a b",
        "a\tb",
        "a\nb",
        "a\u2003b",
        "unix:",
        "unix:a b",
        "a\x00",
        "unix:a\x00",
        "a\x1b[m",
    ],
)
def test_a_host_has_no_blanks_and_is_printable(text: str) -> None:
    with pytest.raises(ValueError, match="is not a host name or address"):
        host(text)


@pytest.mark.parametrize("digits", ["9" * 101, "9" * 5000, "0" * 5000 + "x"])
def test_a_very_long_value_is_refused_in_a_short_line(digits: str) -> None:
    with pytest.raises(ValueError, match="is not a whole number from 0 to 9") as error:
        whole(0, 9)(digits)
    assert len(str(error.value)) < 150


@pytest.mark.parametrize("path", ["/tmp/größe", "/tmp/gr\udcc3\udcb6sse", "/tmp/\udcff"])
def test_a_path_is_one_that_the_system_takes(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert file(path) == path
    # As in a locale whose encoding is ASCII.
    monkeypatch.setattr("os.fsencode", lambda name: name.encode("ascii", "surrogateescape"))
    monkeypatch.setattr("os.fsdecode", lambda name: name.decode("ascii", "surrogateescape"))
    assert file(path) == path.encode("utf-8", "surrogateescape").decode("ascii", "surrogateescape")


def test_a_file_is_a_path_or_none() -> None:
    assert file(" /var/log/rejects.jsonl ") == "/var/log/rejects.jsonl"
    assert file("none") is None


@pytest.mark.parametrize("text", ["", " ", "two words", "a\nb", "a\x00b", "a\x1b[m", "\ud800"])
@pytest.mark.parametrize("parse", [file, journal])
def test_a_path_has_no_blanks_and_is_printable(parse: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError, match="is neither none nor a file path") as error:
        parse(text)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (" none ", None),
        ("/var/lib/maze/journal", "/var/lib/maze/journal"),
        ("redis://u:p@h/1", "redis://u:p@h/1"),
        ("REDISS://h", "REDISS://h"),
    ],
)
def test_a_journal_is_a_path_or_a_url(text: str, place: str | None) -> None:
    assert journal(text) == place


@pytest.mark.parametrize(
    "text", ["redis:/u:secret@h", "//u:secret@h", "redis://u:sec ret@h", "unix://u:secret\0@/s"]
)
def test_a_wrong_url_is_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match=r"the value \(not shown\)") as error:
        journal(text)
    assert "sec" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "value"), [("none", ""), (" NONE ", ""), ("abcd", "abcd"), ("~!#$", "~!#$")]
)
def test_a_secret_is_a_word_or_none(text: str, value: str) -> None:
    assert secret(4, 8)(text) == value


@pytest.mark.parametrize("text", ["", "abc", "abcdefghi", "ab cd", "ab\tcd", "ab\x00cd", "äbcd"])
def test_what_is_no_secret_is_not_shown(text: str) -> None:
    with pytest.raises(ValueError, match="4 to 8 printable ASCII") as error:
        secret(4, 8)(text)
    assert not text or text not in str(error.value)


@pytest.mark.parametrize(
    ("text", "port"), [("0", 0), ("9095", 9095), ("65535", 65535), (" Free ", FREE_PORT)]
)
def test_a_port_may_be_a_free_one(text: str, port: int) -> None:
    assert port_or_free(text) == port


@pytest.mark.parametrize("text", ["", "-1", "65536", "fre", "none"])
def test_what_is_no_port(text: str) -> None:
    with pytest.raises(ValueError, match="whole number from 0 to 65535 or the word free"):
        port_or_free(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", ()),
        (" None ", ()),
        ("any", ANY_NAME),
        (" ANY ", ANY_NAME),
        ("feed", ("feed",)),
        (" Feed 1 , feed-2,F\u00fc\u00dfe ", ("Feed 1", "feed-2", "F\u00fc\u00dfe")),
    ],
)
def test_names_have_commas_between_them(text: str, value: tuple[str, ...]) -> None:
    assert names(text) == value


@pytest.mark.parametrize(
    "text", ["", " ", ",", "a,", ",a", "a,,b", "a\nb", "a\x00", "any,a", "a,none", "a, ANY"]
)
def test_what_is_no_list_of_names(text: str) -> None:
    with pytest.raises(
        ValueError, match="is not none, any, or a list of names such as feed-1,feed-2"
    ):
        names(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("none", ()),
        ("10.0.0.0/8, ::1", (ip_network("10.0.0.0/8"), ip_network("::1"))),
        ("unix", ("unix",)),
        ("192.0.2.5,unix", (ip_network("192.0.2.5"), "unix")),
    ],
)
def test_ranges_of_peers_may_have_those_on_unix_sockets(text: str, value: object) -> None:
    assert peer_ranges(text) == value


@pytest.mark.parametrize("text", ["", "any", "proxy.test", "10.0.0.1/8", "unix,none", "unix:/path"])
def test_what_is_no_list_of_ranges(text: str) -> None:
    with pytest.raises(ValueError, match="neither none nor a list of address ranges such as"):
        peer_ranges(text)
