"""Read the settings from the command line, the environment and the TOML file.

ConfigArgParse combines the three; this module declares the options to it and rewords its errors.
"""

import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import Field, fields
from functools import partial
from typing import Any, NamedTuple, NoReturn

import configargparse

from maze import __version__
from maze.errors import SettingsError
from maze.settings.combinations import admin_fault, port_fault
from maze.settings.given import Given
from maze.settings.options import Settings, flag_of, key_of, variable_of
from maze.settings.services import is_of_service, is_service_address
from maze.settings.suggestion import SEE_HELP, suggestion
from maze.settings.toml_file import ENCODING, SettingsFile

_UNREADABLE = re.compile(r"Unable to open config file: (.*)\. Error: \[Errno \d+\] (.*): '.*'")
"""ConfigArgParse's message for a file that cannot be read."""


OTHER_VARIABLES = {"MAZE_CONFIG", "MAZE_PURE", "MAZE_CHILD"}
"""Variables that belong to no option."""


class Options(NamedTuple):
    """What was read."""

    settings: Settings
    given: dict[str, Given]
    """The text of each option's value, and its origin, by field name."""
    are_only_checked: bool
    """Whether the server is only to say what it would use (``--check-config``)."""


def read_options(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Options:
    """Read the options from the command line, the environment and the file.

    For wrong settings, print one line to stderr and raise SystemExit with status 2. For ``--help``
    and ``--version``, raise SystemExit with status 0.
    """
    try:
        return parse_options(arguments, environment)
    except SettingsError as error:
        complain(str(error))
        sys.exit(2)


def complain(text: str) -> None:
    """Write a line to stderr, if it can be written: the exit status says as much."""
    with suppress(OSError):
        if sys.stderr:  # None if it was closed; print() would write to stdout
            print(f"maze: {text}", file=sys.stderr)


def read_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Read the settings alone, as ``read_options`` does."""
    return read_options(arguments, environment).settings


def parse_options(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Options:
    """Read the options as ``read_options`` does, but raise SettingsError if they are wrong."""
    variables = dict(os.environ if environment is None else environment)
    for name in ignored_variables(variables):
        del variables[name]
    log_level_variable = variable_of("log_level")
    if variables.get("LOG_LEVEL") and log_level_variable not in variables:
        log_level_variable = "LOG_LEVEL"
    parser = _parser({"log_level": log_level_variable})
    values = vars(parser.parse_args(arguments, env_vars=variables))
    settings = Settings(**{spec.name: values[spec.name] for spec in fields(Settings)})
    if fault := admin_fault(settings) or port_fault(settings):
        parser.error(fault)
    given = {name: Given(text, _origin_of(name, parser)) for name, text in parser.texts.items()}
    return Options(settings, given, values["check_config"])


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the unknown variables that begin with ``MAZE_``, each with a hint.

    Those that Kubernetes makes for its Services are not among them.
    """
    known = {variable_of(spec.name) for spec in fields(Settings)} | OTHER_VARIABLES
    unknown = (
        name
        for name, value in environment.items()
        if name.startswith("MAZE_") and name not in known and not is_of_service(name, value)
    )
    return {name: suggestion(name, known, "MAZE_") for name in sorted(unknown)}


def ignored_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of options that are not read, with their values.

    Kubernetes has set them for a Service whose name is that of an option.
    """
    variables = (variable_of(spec.name) for spec in fields(Settings))
    return {
        name: environment[name]
        for name in variables
        if name in environment and is_service_address(name, environment[name])
    }


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.texts: dict[str, str] = {}
        """The text of the value of each option, by field name."""

    def error(self, message: str) -> NoReturn:
        """Raise SettingsError with the message in one line."""
        line = " ".join(message.split())
        if unreadable := _UNREADABLE.fullmatch(line):
            line = "--config (or MAZE_CONFIG): cannot read {}: {}".format(*unreadable.groups())
        elif line.startswith("unrecognized arguments: "):
            line += f"; {_suggested_flag(line.split())}"
        raise SettingsError(line)


def _suggested_flag(words: Sequence[str]) -> str:
    """Return what to do about the first unknown flag among these words."""
    wrong = next((word.partition("=")[0] for word in words if word.startswith("--")), None)
    flags = ["--config", "--check-config", *(flag_of(spec.name) for spec in fields(Settings))]
    return SEE_HELP if wrong is None else suggestion(wrong, flags, "--")


def _parser(variables: Mapping[str, str]) -> _Parser:
    """Return the parser. ``variables`` overrides ``variable_of`` for the fields in it."""
    parser = _Parser(
        prog="python -m maze.serve",
        description="Restore the order of an event stream, and forward to every connected user "
        "exactly the events meant for that user.",
        epilog="Units of time: ms, s, m, h. Units of size: B, kB, KiB, MB, MiB, GB, GiB. Every "
        "option is also an environment variable (--source-port: MAZE_SOURCE_PORT) and a key of "
        "the TOML file (source-port = 9090). A flag overrides a variable, and a variable overrides "
        "the file.",
        config_file_parser_class=SettingsFile({key_of(spec.name) for spec in fields(Settings)}),
        config_file_open_func=partial(open, encoding=ENCODING),
        add_env_var_help=False,
        add_config_file_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"Follower Maze {__version__}")
    parser.add_argument(
        "--config",
        metavar="FILE",
        env_var="MAZE_CONFIG",
        is_config_file=True,
        help="TOML file with options; also read from the variable MAZE_CONFIG",
    )
    parser.add_argument(
        "--check-config",
        action="store_true",
        help="print each option's value and where it comes from, or what is wrong, and exit",
    )
    declared = dict.fromkeys(spec.metadata["group"] for spec in fields(Settings))
    groups = {group: parser.add_argument_group(group.title) for group in declared}
    for spec in fields(Settings):
        meta = spec.metadata
        groups[meta["group"]].add_argument(
            flag_of(spec.name),
            env_var=variables.get(spec.name, variable_of(spec.name)),
            type=_parse_of(spec, parser),
            default=meta["default"],
            metavar=meta["value"],
            help=_help(spec),
        )
    return parser


def _parse_of(spec: Field[Any], parser: _Parser) -> Callable[[str], Any]:
    """Return the option's parser of values; its errors say where the value came from."""

    def parse(text: str) -> Any:
        parser.texts[spec.name] = text  # of several flags, the last one counts
        try:
            return spec.metadata["parse"](text)
        except ValueError as error:
            parser.error(f"{_place_of(spec.name, parser)}: {error}")

    return parse


def _place_of(name: str, parser: _Parser) -> str:
    """Return where a wrong value is: a flag, a variable, or a file and its key."""
    _, key, file = _source_of(name, parser)
    return f"{file}: {key}" if file else key


def _origin_of(name: str, parser: _Parser) -> str:
    """Return where the option's value comes from, in words."""
    kind, key, file = _source_of(name, parser)
    return {
        "defaults": "default",
        "environment_variables": f"environment variable {key}",
        "config_file": f"file {file}",
        "command_line": "command line",
    }[kind]


def _source_of(name: str, parser: _Parser) -> tuple[str, str, str]:
    """Return where the option's value comes from: ConfigArgParse's word, the name, the file."""
    for source, settings in parser.get_source_to_settings_dict().items():
        kind, _, file = source.partition("|")
        for key, (action, _) in settings.items():
            if action is not None and action.dest == name:
                return kind, key, file
    return "command_line", flag_of(name), ""


def _help(spec: Field[Any]) -> str:
    meta = spec.metadata
    bounds = f"{meta['bounds']}; " if " to " in meta["bounds"] else ""
    return f"{meta['help']} ({bounds}default {meta['default']})"
