"""Every option in every place; the tables are made from the declarations themselves."""

import re
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

import pytest

from maze import __version__
from maze.settings.options import Settings, flag_of, key_of, variable_of
from maze.settings.parser import ignored_variables, read_settings, unknown_variables

from ..reading import Write, read, refusal

OPTIONS = fields(Settings)
WRONG = "a\tb"
"""a value that no option takes"""

SPECIAL = {
    "source_names": ("any", "feed 1,feed-2"),
    "source_host": ("192.0.2.1", "host.test"),
    "client_host": ("::", "unix:/run/maze/client"),
    "admin_host": ("127.0.0.2", "unix:/run/maze/admin"),  # other machines need a token
    "proxy_from": ("10.0.0.0/8,2001:db8::/32", "unix"),
    "admin_port": ("0", "65535"),
    "admin_token": ("0123456789abcdef", "f" * 256),
    "journal": ("/var/lib/maze/journal", "redis://redis.test"),
    "journal_name": ("maze", "maze_2"),
    "feed": ("127.0.0.1:9093", "unix:/run/maze/feed"),
    "feed_token": ("0123456789abcdef", "f" * 256),
}

each_option = pytest.mark.parametrize("option", OPTIONS, ids=lambda option: option.name)


def two_values(option: Field[Any]) -> tuple[str, str]:
    """Two different values that the option takes: its bounds, or two of its words."""
    if option.name.startswith("allow_"):
        return "192.0.2.1", "10.0.0.0/8,2001:db8::/32"
    if option.name in SPECIAL:
        return SPECIAL[option.name]
    bounds: str = option.metadata["bounds"].removesuffix(" or none")
    if " to " in bounds:
        low, high = bounds.split(" to ")
        return low, high
    words = bounds.split(", ")
    return (words[0], words[1]) if len(words) > 1 else ("192.0.2.1", "host.test")


def other_value(option: Field[Any]) -> str:
    """A value that is not the default."""
    one, two = two_values(option)
    return one if option.metadata["parse"](one) != option.default else two


def as_shown(option: Field[Any], value: str) -> str:
    """How the complaint about a value begins: a secret is not repeated."""
    return "the value (not shown) is n" if option.name.endswith("token") else f"{value!r} is n"


def toml(option: Field[Any], value: str) -> str:
    return f'{key_of(option.name)} = "{value}"\n'


# The layers.


@each_option
def test_without_anything_an_option_has_its_default(option: Field[Any]) -> None:
    value = getattr(read(), option.name)
    assert value == option.default == option.metadata["parse"](option.metadata["default"])


@each_option
def test_the_file_beats_the_default(option: Field[Any], write: Write) -> None:
    text = other_value(option)
    settings = read("--config", write(toml(option, text)))
    assert getattr(settings, option.name) == option.metadata["parse"](text) != option.default


@each_option
def test_the_variable_beats_the_file(option: Field[Any], write: Write) -> None:
    for high, low in (two_values(option), two_values(option)[::-1]):
        settings = read("--config", write(toml(option, low)), **{variable_of(option.name): high})
        assert getattr(settings, option.name) == option.metadata["parse"](high)


@each_option
def test_the_flag_beats_the_variable_and_the_file(option: Field[Any], write: Write) -> None:
    for high, low in (two_values(option), two_values(option)[::-1]):
        file = write(toml(option, low))
        variable = {variable_of(option.name): low}
        for flag in ([flag_of(option.name), high], [f"{flag_of(option.name)}={high}"]):
            for settings in (
                read(*flag, "--config", file),
                read(*flag, **variable),
                read("--config", file, *flag, **variable),
            ):
                assert getattr(settings, option.name) == option.metadata["parse"](high)


@each_option
def test_an_option_changes_no_other(option: Field[Any]) -> None:
    settings = read(flag_of(option.name), other_value(option))
    changed = {each.name for each in OPTIONS if getattr(settings, each.name) != each.default}
    assert changed == {option.name}


def test_layers_add_up(write: Write) -> None:
    file = write('source-port = 1\nclient-port = 2\nbacklog = 3\ngap-policy = "fail"\n')
    settings = read("--source-port", "10", MAZE_CONFIG=file, MAZE_CLIENT_PORT="20")
    assert (settings.source_port, settings.client_port, settings.backlog) == (10, 20, 3)
    assert settings.gap_policy == "fail"


def test_the_flag_names_another_file_than_the_variable(write: Write, tmp_path: Path) -> None:
    file = write("backlog = 3\n")
    assert read("--config", file, MAZE_CONFIG=str(tmp_path / "absent")).backlog == 3


def test_the_file_takes_whole_numbers_with_and_without_quotes(write: Write) -> None:
    assert read("--config", write("reorder-limit = 5_000\n")).reorder_limit == 5000
    assert read("--config", write('reorder-limit = "5_000"\n')).reorder_limit == 5000


def test_an_empty_file_changes_nothing(write: Write) -> None:
    assert read("--config", write("# nothing\n")) == Settings()


def test_the_last_of_two_flags_counts() -> None:
    assert read("--backlog", "1", "--backlog", "2").backlog == 2


def test_a_flag_hides_what_is_wrong_below_it(write: Write) -> None:
    file = write('backlog = "x"\n')
    assert read("--backlog", "5", "--config", file, MAZE_BACKLOG="y").backlog == 5


def test_command_line_and_environment_of_the_process_are_read_unless_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.argv", ["serve", "--source-port", "1"])
    monkeypatch.setenv("MAZE_CLIENT_PORT", "2")
    settings = read_settings()
    assert (settings.source_port, settings.client_port) == (1, 2)


def test_variables_of_other_programs_do_not_matter() -> None:
    assert read(MAZE_UNHEARD_OF="1", SOURCE_PORT="1", PATH="/bin") == Settings()


# The log level.


@pytest.mark.parametrize(
    ("arguments", "environment", "level"),
    [
        ([], {}, "info"),
        ([], {"LOG_LEVEL": "debug"}, "debug"),
        ([], {"LOG_LEVEL": "DEBUG"}, "debug"),
        ([], {"LOG_LEVEL": "debug", "MAZE_LOG_LEVEL": "error"}, "error"),
        (["--log-level", "warning"], {"LOG_LEVEL": "debug"}, "warning"),
    ],
)
def test_the_log_level_is_read_from_log_level_too(
    arguments: list[str], environment: Mapping[str, str], level: str
) -> None:
    assert read_settings(arguments, environment).log_level == level


def test_log_level_beats_the_file(write: Write) -> None:
    file = write('log-level = "error"\n')
    assert read("--config", file, LOG_LEVEL="debug").log_level == "debug"


def test_a_wrong_log_level_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, LOG_LEVEL="loud")
    assert "LOG_LEVEL: 'loud' is not one of debug, info, warning, error" in line


def test_a_wrong_log_level_names_the_variable_that_was_set(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert refusal(capsys, LOG_LEVEL="loud").startswith("LOG_LEVEL: ")
    assert refusal(capsys, MAZE_LOG_LEVEL="loud", LOG_LEVEL="debug").startswith("MAZE_LOG_LEVEL: ")


def test_an_empty_log_level_is_none() -> None:
    assert read_settings([], {"LOG_LEVEL": ""}).log_level == "info"


# What is wrong, and where.


@each_option
def test_a_wrong_flag_is_named(option: Field[Any], capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, flag_of(option.name), WRONG)
    assert line.startswith(f"{flag_of(option.name)}: {as_shown(option, WRONG)}")


@each_option
def test_a_wrong_variable_is_named(option: Field[Any], capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, **{variable_of(option.name): WRONG})
    assert line.startswith(f"{variable_of(option.name)}: {as_shown(option, WRONG)}")


@each_option
def test_a_wrong_value_in_the_file_is_named_with_the_file(
    option: Field[Any], capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    file = write(toml(option, WRONG))
    for line in (refusal(capsys, "--config", file), refusal(capsys, MAZE_CONFIG=file)):
        assert line.startswith(f"{file}: {key_of(option.name)}: {as_shown(option, WRONG)}")


@each_option
def test_an_empty_value_is_wrong(option: Field[Any], capsys: pytest.CaptureFixture[str]) -> None:
    flag, name = flag_of(option.name), variable_of(option.name)
    assert refusal(capsys, f"{flag}=").startswith(f"{flag}: {as_shown(option, '')}")
    assert refusal(capsys, **{name: ""}).startswith(f"{name}: {as_shown(option, '')}")


@each_option
def test_a_value_with_a_line_break_is_refused_in_one_line(
    option: Field[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert flag_of(option.name) in refusal(capsys, flag_of(option.name), "a\nb\u2028c")


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("source_port", "-1", "65536"),
        ("client_port", "-1", "65536"),
        ("backlog", "0", "65536"),
        ("first_sequence", "-1", str(2**63)),
        ("reorder_limit", "0", "10000001"),
        ("reorder_bytes", "1023KiB", "1025GiB"),
        ("max_users", "0", "1000000001"),
        ("max_follows", "0", "100000000001"),
        ("max_follows_per_user", "0", "100000000001"),
        ("max_clients", "0", "1000001"),
        ("max_clients_per_address", "0", "1000001"),
        ("max_clients_per_user", "0", "1000001"),
        ("max_handshakes", "0", "1000001"),
        ("peer_timeout", "2s", "25h"),
        ("max_sources", "0", "101"),
        ("line_limit", "63B", "1025KiB"),
        ("handshake_timeout", "9ms", "61m"),
        ("handshake_limit", "18B", "5KiB"),
        ("client_buffer", "1023B", "17GiB"),
        ("total_buffer", "1023B", "1025GiB"),
        ("stall_timeout", "9ms", "25h"),
        ("drain_timeout", "-1s", "61m"),
    ],
)
def test_a_value_just_out_of_bounds_is_refused(
    name: str, low: str, high: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in (low, high):
        assert refusal(capsys, f"{flag_of(name)}={value}").startswith(f"{flag_of(name)}: ")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--nope"], "--nope"),
        (["--nope=1"], "--nope=1"),
        (["--source_port", "1"], "--source_port"),
        (["--sourc", "1"], "--sourc"),
        (["stray"], "stray"),
        (["--source-port"], "--source-port"),
        (["--config"], "--config"),
    ],
)
def test_an_unknown_or_incomplete_flag_is_refused_and_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert named in refusal(capsys, *arguments)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--reorder-limits=5"], "did you mean --reorder-limit? see --help"),
        (["--source_port", "1"], "did you mean --source-port? see --help"),
        (["stray", "--confg", "x", "--reorder-limits", "5"], "did you mean --config? see --help"),
        (["--nope"], "see --help for all options"),
        (["stray"], "see --help for all options"),
    ],
)
def test_an_unknown_flag_gets_a_hint_at_the_most_similar_one(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refusal(capsys, *arguments)
    assert line == f"unrecognized arguments: {' '.join(arguments)}; {hint}"


def test_an_unknown_variable_gets_a_hint_at_the_most_similar_one() -> None:
    environment = {
        **{"MAZE_SOURCE_PORT": "1", "MAZE_CONFIG": "x", "MAZE_PURE": "1", "SOURCE_PRT": "1"},
        **{"MAZE_SOURCE_PRT": "1", "MAZE_PUR": "1", "MAZE_": "1", "MAZE_XYZ": "1"},
    }
    assert unknown_variables(environment) == {
        "MAZE_": "see --help for all options",
        "MAZE_PUR": "did you mean MAZE_PURE? see --help",
        "MAZE_SOURCE_PRT": "did you mean MAZE_SOURCE_PORT? see --help",
        "MAZE_XYZ": "see --help for all options",
    }


# Variables that Kubernetes makes for its Services.

PORT_OPTIONS = [option for option in OPTIONS if option.name.endswith("_port")]
SERVICE_ADDRESSES = [
    "tcp://10.0.0.7:9090",
    "udp://10.0.0.7:9090",
    "sctp://10.0.0.7:9090",
    "tcp://[fd00::7]:9090",
]

each_port_option = pytest.mark.parametrize("option", PORT_OPTIONS, ids=lambda option: option.name)


def test_options_that_end_with_port_are_tested() -> None:
    assert {"source_port", "client_port", "admin_port"} <= {each.name for each in PORT_OPTIONS}


@each_port_option
@pytest.mark.parametrize("address", SERVICE_ADDRESSES)
def test_the_address_of_a_service_is_passed_over(
    option: Field[Any], address: str, write: Write
) -> None:
    variable = {variable_of(option.name): address}
    assert read(**variable) == Settings()
    from_file = read("--config", write(f"{key_of(option.name)} = 7\n"), **variable)
    assert getattr(from_file, option.name) == 7
    assert getattr(read(flag_of(option.name), "8", **variable), option.name) == 8
    assert ignored_variables(variable) == variable


@each_port_option
@pytest.mark.parametrize(
    "value", ["tcp://", "tcp://10.0.0.7", "http://10.0.0.7:9090", "10.0.0.7:9090", "tcp", ""]
)
def test_only_the_address_of_a_service_is_passed_over(
    option: Field[Any], value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    variable = {variable_of(option.name): value}
    assert refusal(capsys, **variable).startswith(variable_of(option.name))
    assert ignored_variables(variable) == {}


def test_the_address_of_a_service_is_wrong_for_other_options_and_in_other_places(
    capsys: pytest.CaptureFixture[str], write: Write
) -> None:
    address = SERVICE_ADDRESSES[0]
    assert refusal(capsys, MAZE_BACKLOG=address).startswith("MAZE_BACKLOG: ")
    assert refusal(capsys, "--client-port", address).startswith("--client-port: ")
    file = write(f'client-port = "{address}"\n')
    assert refusal(capsys, "--config", file).startswith(f"{file}: client-port: ")


def test_variables_of_services_are_not_unknown() -> None:
    environment: dict[str, str] = {}
    for service in ("MAZE", "MAZE_CLIENT", "MAZE_FEED", "MAZE_EVENT_SOURCE"):
        environment |= {
            f"{service}_SERVICE_HOST": "10.0.0.7",
            f"{service}_SERVICE_PORT": "9090",
            f"{service}_SERVICE_PORT_HTTP_2": "9090",
            f"{service}_PORT": "tcp://10.0.0.7:9090",
        }
        for protocol in ("TCP", "UDP", "SCTP"):
            port = f"{service}_PORT_9090_{protocol}"
            environment |= {
                port: f"{protocol.lower()}://10.0.0.7:9090",
                f"{port}_PROTO": protocol.lower(),
                f"{port}_PORT": "9090",
                f"{port}_ADDR": "10.0.0.7",
            }
    assert unknown_variables(environment) == {}
    assert read(**environment) == Settings()


def test_variables_that_only_resemble_those_of_services_are_unknown() -> None:
    names = ("MAZE_FEED_PORT", "MAZE_PORT_TCP", "MAZE_SERVICE_HOSTS", "MAZE_SERVICE")
    assert set(unknown_variables(dict.fromkeys(names, "9090"))) == set(names)


def test_a_token_that_is_too_short_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    for word in ("hunter2hunter2", "h" * 257, "hunter2 hunter2 hunter2", "hünter2hunter2hunter2"):
        assert "unter" not in refusal(capsys, "--admin-token", word)


# Help.


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as exit_:
        read(*arguments)
    assert exit_.value.code == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_help_exits_0_and_mentions_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, "--help")
    mentioned = set(re.findall(r"--[a-z-]+", text))
    assert mentioned == {flag_of(option.name) for option in OPTIONS} | {
        "--help",
        "--version",
        "--config",
        "--check-config",
    }


def test_help_says_every_default_as_a_person_would_write_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = " ".join(output(capsys, "--help").split())
    for option in OPTIONS:
        help_, bounds, default = (option.metadata[key] for key in ("help", "bounds", "default"))
        inside = f"{bounds}; default {default}" if " to " in bounds else f"default {default}"
        assert f"{help_} ({inside})" in text


def test_help_does_not_need_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert output(capsys, "--config", str(tmp_path / "absent"), "--help").startswith("usage: ")


def test_version_exits_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert output(capsys, "--version") == f"Follower Maze {__version__}\n"
