"""What ``--check-config`` says of each option: its value, and where it comes from."""

import re
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from maze.settings.given import Given, describe, shown
from maze.settings.options import Settings, flag_of, key_of, variable_of
from maze.settings.parser import Options, parse_options

from ..reading import Write
from .test_parser import each_option, other_value

OPTIONS = fields(Settings)


def options(*arguments: str, **environment: str) -> Options:
    return parse_options(arguments, environment)


def row(found: Options, option: Field[Any]) -> list[str]:
    """The columns of an option's line."""
    line = describe(found.given).splitlines()[OPTIONS.index(option)]
    return re.split("  +", line)


def told(option: Field[Any], value: str) -> str:
    return "(set)" if option.name.endswith("_token") else value


@each_option
def test_a_default_is_told(option: Field[Any]) -> None:
    assert row(options(), option) == [flag_of(option.name), option.metadata["default"], "default"]


@each_option
def test_the_origin_of_a_value_is_told(option: Field[Any], write: Write) -> None:
    flag, key, variable = flag_of(option.name), key_of(option.name), variable_of(option.name)
    value = other_value(option)
    file = write(f'{key} = "{value}"\n')
    expected = [flag, told(option, value)]
    assert row(options("--config", file), option) == [*expected, f"file {file}"]
    from_variable = options("--config", file, **{variable: value})
    assert row(from_variable, option) == [*expected, f"environment variable {variable}"]
    from_flag = options(f"{flag}={value}", "--config", file, **{variable: value})
    assert row(from_flag, option) == [*expected, "command line"]


def test_the_log_level_may_come_from_another_variable() -> None:
    assert options(LOG_LEVEL="debug").given["log_level"] == Given(
        "debug", "environment variable LOG_LEVEL"
    )


def test_the_last_of_two_flags_is_told() -> None:
    found = options("--backlog", "5", "--backlog", "6")
    assert found.given["backlog"] == Given("6", "command line")


def test_a_variable_that_is_passed_over_is_not_told(write: Write) -> None:
    file = write("client-port = 7\n")
    found = options("--config", file, MAZE_CLIENT_PORT="tcp://10.0.0.7:9090")
    assert found.given["client_port"] == Given("7", f"file {file}")


def test_columns_are_aligned_and_in_the_order_of_the_options() -> None:
    lines = describe(options("--rejects", "/var/lib/maze/a/long/path.jsonl").given).splitlines()
    assert [line.split()[0] for line in lines] == [flag_of(option.name) for option in OPTIONS]
    assert len({line.rindex("  ") for line in lines}) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("redis://h", "redis://h"),
        ("redis://user@h/1", "redis://user@h/1"),
        ("redis://:word@h", "redis://:(set)@h"),
        ("rediss://user:p@ss:word@h:1/2", "rediss://user:(set)@h:1/2"),
        ("unix://user:word@/path@x:y?db=1", "unix://user:(set)@/path@x:y?db=1"),
        ("unix:///a:b@c", "unix:///a:b@c"),
        ("/path/a:b@c", "/path/a:b@c"),
    ],
)
def test_a_password_in_a_url_is_not_shown(text: str, expected: str) -> None:
    assert shown(text, is_secret=False) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.0/8,\n::1", "10.0.0.0/8,\\n::1"),
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("/gr\u00f6\u00dfe\\n", "/gr\u00f6\u00dfe\\n"),
        ("/\udcff", "/\\udcff"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, expected: str) -> None:
    assert shown(text, is_secret=False) == expected


def test_an_option_is_one_line_whatever_its_value_and_file(tmp_path: Path) -> None:
    file = tmp_path / "a\x1b[31m\nb.toml"
    file.write_text('allow-source = """10.0.0.0/8,\n::1"""\n')
    lines = describe(options("--config", str(file)).given).split("\n")
    assert len(lines) == len(OPTIONS) + 1
    assert all(map(str.isprintable, lines))


def test_a_secret_is_not_shown_but_its_absence_is() -> None:
    assert shown(" 0123456789abcdef ", is_secret=True) == "(set)"
    assert shown("None", is_secret=True) == "None"


def test_only_the_flag_asks_for_a_check(write: Write) -> None:
    assert options("--check-config").are_only_checked
    assert not options().are_only_checked
