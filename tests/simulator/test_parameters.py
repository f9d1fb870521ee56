"""Flags, environment, defaults and their order; errors in one line."""

import pytest

from simulator.errors import ParameterError
from simulator.parameters import Parameters, parse
from simulator.stream.workload import EVEN_MIX, ORIGINAL_MIX, Workload

VARIABLES = {
    "logLevel": ("debug", "--log-level"),
    "eventListenerPort": ("7001", "--event-listener-port"),
    "clientListenerPort": ("7002", "--client-listener-port"),
    "totalEvents": ("5", "--total-events"),
    "concurrencyLevel": ("6", "--concurrency-level"),
    "numberOfUsers": ("2000", "--number-of-users"),
    "randomSeed": ("-7", "--random-seed"),
    "timeout": ("1500", "--timeout"),
    "maxEventSourceBatchSize": ("9", "--max-event-source-batch-size"),
    "logInterval": ("250", "--log-interval"),
}


def test_the_defaults() -> None:
    assert parse([], {}) == Parameters(
        workload=Workload(events=10_000_000, clients=100, users=1000, batch=100, seed=666),
        host="127.0.0.1",
        source_port=9090,
        client_port=9099,
        timeout=20.0,
        log_level="info",
        log_interval=1.0,
        rate=None,
        settle=0.0,
        linger=0.2,
        serve=False,
    )


def test_all_variables_and_all_flags_mean_the_same() -> None:
    environment = {name: value for name, (value, _) in VARIABLES.items()}
    flags = [part for value, flag in VARIABLES.values() for part in (flag, value)]
    expected = Parameters(
        workload=Workload(events=5, clients=6, users=2000, batch=9, seed=-7),
        host="127.0.0.1",
        source_port=7001,
        client_port=7002,
        timeout=1.5,
        log_level="debug",
        log_interval=0.25,
        rate=None,
        settle=0.0,
        linger=0.2,
        serve=False,
    )
    assert parse([], environment) == expected
    assert parse(flags, {}) == expected


def test_our_own_flags() -> None:
    flags = "--host ::1 --mix 1,2,0,.5,3 --rate 2.5 --crlf --settle 0 --linger 7"
    given = parse(flags.split(), {})
    assert (given.host, given.rate, given.settle, given.linger) == ("::1", 2.5, 0.0, 0.007)
    assert not given.serve
    assert parse(["--serve"], {}).serve
    assert (given.workload.mix, given.workload.crlf) == ((1, 2, 0, 0.5, 3), True)


def test_the_default_mix_is_the_original_one() -> None:
    assert parse([], {}).workload.mix == ORIGINAL_MIX
    assert parse(["--mix", "original"], {}).workload.mix == ORIGINAL_MIX
    assert parse(["--mix", "1,1,1,1,1"], {}).workload.mix == EVEN_MIX


def test_a_flag_beats_the_environment_even_a_wrong_one() -> None:
    assert parse(["--total-events", "3"], {"totalEvents": "x"}).workload.events == 3


def test_an_empty_variable_is_unset() -> None:
    assert parse([], {"totalEvents": ""}).workload.events == 10_000_000


def test_users_are_ten_for_each_client() -> None:
    assert parse(["--concurrency-level", "7"], {}).workload.users == 70


def test_warn_is_warning() -> None:
    assert parse([], {"logLevel": "WARN"}).log_level == "warning"


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        ("--total-events x", "--total-events: 'x' is not a whole number (see --help)"),
        ("--total-events 0", "0 is not at least 1"),
        ("--event-listener-port 65536", "65536 is not from 1 to 65535"),
        ("--number-of-users 4294967296", "is not from 1 to 4294967295"),
        ("--concurrency-level 9 --number-of-users 8", "--concurrency-level 9 is more than"),
        ("--settle -1", "--settle"),
        ("--rate 0", "--rate: '0' is not a number above 0"),
        ("--rate inf", "'inf' is not a number above 0"),
        ("--rate fast", "'fast' is not a number above 0"),
        ("--mix 1,2,3", "'1,2,3' is not five weights"),
        ("--mix 1,1,1,1,-1", "is not five weights"),
        ("--mix 1,1,1,1,nan", "is not five weights"),
        ("--mix a,1,1,1,1", "is not five weights"),
        ("--mix 0,0,0,0,0", "has no weight above 0"),
        ("--log-level loud", "'loud' is not one of debug, info, warning, error"),
        ("--no-such-flag", "unrecognized arguments: --no-such-flag"),
        ("--total-event 5", "unrecognized arguments: --total-event 5"),
    ],
)
def test_what_makes_no_sense_is_one_clear_line(flags: str, part: str) -> None:
    with pytest.raises(ParameterError) as caught:
        parse(flags.split(), {})
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_wrong_variable_is_named() -> None:
    with pytest.raises(ParameterError, match=r"^randomSeed: 'many' is not a whole number \(the"):
        parse([], {"randomSeed": "many"})
    with pytest.raises(ParameterError, match=r"^eventListenerPort: 0 is not from 1 to 65535 \("):
        parse(["--total-events", "5"], {"eventListenerPort": "0"})
    with pytest.raises(ParameterError, match=r"^--random-seed: 'few' is not"):
        parse(["--random-seed", "few"], {"randomSeed": "many"})


@pytest.mark.parametrize("flag", ["--host", "--event-listener-port", "--client-listener-port"])
def test_a_server_of_our_own_is_not_elsewhere(flag: str) -> None:
    with pytest.raises(ParameterError, match=r"--serve cannot be combined with --\w+[\w-]*: "):
        parse([flag, "9090", "--serve"], {})


def test_variables_of_other_runs_do_not_keep_it_from_starting() -> None:
    assert parse(["--serve"], {"eventListenerPort": "9090"}).serve


def test_help_names_every_variable(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(["--help"], {})
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for name, (_, flag) in VARIABLES.items():
        assert f"[{name}]" in text
        assert flag in text
