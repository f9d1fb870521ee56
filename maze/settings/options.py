"""Every option, declared once: flag, variable, TOML key, default, bounds and help.

A field of ``Settings`` named ``source_port`` is the flag ``--source-port``, the
environment variable ``MAZE_SOURCE_PORT`` and the TOML key ``source-port``; the
flag wins over the variable, the variable over the file, the file over the
default. The layering itself is ConfigArgParse's.
"""

import ipaddress
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from typing import Any, NoReturn

import configargparse

from maze import __version__
from maze.errors import SettingsError
from maze.settings.option_types import (
    Network,
    choice,
    duration,
    file,
    host,
    names,
    port_or_free,
    ranges,
    secret,
    size,
    whole,
)
from maze.settings.port import PortSettings
from maze.settings.toml_file import SettingsFile

GROUPS = {
    "ports": "Ports",
    "order": "Order",
    "sources": "Event sources",
    "clients": "User clients",
    "access": "TLS, and who is let in",
    "life": "Life",
    "admin": "Watching",
    "log": "Log",
}


def option(
    group: str, default: str, parse: Callable[[str], Any], text: str, *, bounds: str, value: str
) -> Any:
    """Declare one option; the default is written as a person would write it.

    ``value`` stands for the option's value in the help.
    """
    metadata = {"group": group, "default": default, "parse": parse, "help": text}
    return field(default=parse(default), metadata=metadata | {"bounds": bounds, "value": value})


def _choice(group: str, words: str, text: str) -> Any:
    """An option that is one of a few words, the first of which is the default."""
    names = words.split()
    return option(
        group, names[0], choice(*names), text, bounds=", ".join(names), value="|".join(names)
    )


def _whole(group: str, default: int, low: int, high: int, text: str) -> Any:
    return option(group, str(default), whole(low, high), text, bounds=f"{low} to {high}", value="N")


def _size(group: str, default: str, low: str, high: str, text: str) -> Any:
    return option(group, default, size(low, high), text, bounds=f"{low} to {high}", value="SIZE")


def _duration(group: str, default: str, low: str, high: str, text: str) -> Any:
    return option(
        group, default, duration(low, high), text, bounds=f"{low} to {high}", value="TIME"
    )


def _host(default: str, text: str, group: str = "ports") -> Any:
    return option(group, default, host, text, bounds="host name or address", value="HOST")


def _file(text: str) -> Any:
    return option("access", "none", file, text, bounds="path of a file", value="FILE")


def _ranges(text: str) -> Any:
    return option(
        "access",
        "any",
        ranges,
        text,
        bounds="any or ranges with commas between them",
        value="RANGES",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The value of every option; times in seconds, amounts of memory in bytes."""

    source_host: str = _host("127.0.0.1", "address on which the event source connects")
    source_port: int = _whole("ports", 9090, 0, 65535, "its port; 0 picks a free one")
    client_host: str = _host("127.0.0.1", "address on which user clients connect")
    client_port: int = _whole("ports", 9099, 0, 65535, "their port; 0 picks a free one")
    backlog: int = _whole("ports", 4096, 1, 65535, "connections the kernel keeps until accepted")
    peer_timeout: float = _duration(
        "ports", "45s", "3s", "24h", "time after which a peer that vanished without a word is gone"
    )

    first_sequence: int = _whole("order", 1, 0, 2**63 - 1, "number of a stream's first event")
    reorder_limit: int = _whole(
        "order", 100_000, 1, 10_000_000, "events that may wait for a missing one, or to be routed"
    )
    reorder_bytes: int = _size(
        "order", "64MiB", "1MiB", "1024GiB", "memory that they may take, in all"
    )
    gap_policy: str = _choice(
        "order",
        "skip fail",
        "when too many wait: skip gives the missing numbers up, fail closes the source",
    )
    on_source_disconnect: str = _choice(
        "order",
        "reset keep",
        "when the last source leaves: reset forgets sequence and graph, keep keeps both",
    )

    max_users: int = _whole(
        "order", 1_000_000, 1, 10**9, "users who may follow anybody; the follow graph's first bound"
    )
    max_follows: int = _whole(
        "order", 10_000_000, 1, 10**11, "follows that may hold at a time; its second bound"
    )
    max_follows_per_user: int = _whole(
        "order", 50_000, 1, 10**11, "of them, by one user; its third bound"
    )

    max_sources: int = _whole(
        "sources", 1, 1, 100, "sources at a time; all of them feed the same sequence"
    )
    line_limit: int = _size("sources", "4KiB", "64B", "1MiB", "longest event line")

    max_clients: int = _whole(
        "clients", 10_000, 1, 1_000_000, "clients at a time; fewer if the system allows fewer"
    )
    max_clients_per_address: int = _whole(
        "clients", 10_000, 1, 1_000_000, "of them, from one address"
    )
    max_clients_per_user: int = _whole(
        "clients", 1_000, 1, 1_000_000, "maximum clients of one user at a time"
    )
    max_handshakes: int = _whole(
        "clients", 2_000, 1, 1_000_000, "of them, yet to send their user id"
    )
    handshake_timeout: float = _duration(
        "clients", "5s", "10ms", "1h", "time a client has to send its user id"
    )
    handshake_limit: int = _size("clients", "64B", "19B", "4KiB", "longest user id line")
    position_interval: float = _duration(
        "clients",
        "10s",
        "10ms",
        "24h",
        "time without events after which a client that asked for positions is told its position",
    )
    client_buffer: int = _size(
        "clients", "1MiB", "1KiB", "16GiB", "bytes that may wait for one client"
    )
    total_buffer: int = _size(
        "clients", "256MiB", "1KiB", "1024GiB", "bytes that may wait for all clients together"
    )
    slow_client: str = _choice(
        "clients",
        "wait disconnect",
        "when a client's buffer is full: wait for it, or disconnect it",
    )
    stall_timeout: float = _duration(
        "clients", "10s", "10ms", "24h", "time after which a client that takes nothing is gone"
    )
    hold_timeout: float = _duration(
        "clients",
        "5s",
        "100ms",
        "24h",
        "longest time in any minute that a client may hold up the others; 1m or more: no limit",
    )

    source_tls_cert: str | None = _file("certificate of the source port, in PEM: TLS is on")
    source_tls_key: str | None = _file("its private key")
    source_tls_ca: str | None = _file(
        "a source has to have a certificate of this authority that names it as a source"
    )
    source_names: tuple[str, ...] = option(
        "access",
        "none",
        names,
        "common names accepted in a source's certificate, besides the URI maze:source; "
        "any: accept every certificate of the authority",
        bounds="none, any, or names separated by commas",
        value="NAMES",
    )
    client_tls_cert: str | None = _file("certificate of the client port, in PEM: TLS is on")
    client_tls_key: str | None = _file("its private key")
    client_tls_ca: str | None = _file("a client has to have a certificate of this authority")
    client_identity: str = _choice(
        "access",
        "none certificate",
        "certificate: a client may only be the user whom its certificate names",
    )
    allow_source: tuple[Network, ...] = _ranges("addresses that sources may connect from")
    allow_client: tuple[Network, ...] = _ranges("addresses that clients may connect from")

    drain_timeout: float = _duration(
        "life", "10s", "0s", "1h", "time clients have, on shutdown, to take what waits for them"
    )

    admin_host: str = _host("127.0.0.1", "address of the admin port, for operators only", "admin")
    admin_port: int = option(
        "admin",
        "9095",
        port_or_free,
        "its port; 0 turns it off, free picks a free one",
        bounds="0 to 65535 or free",
        value="PORT",
    )
    admin_token: str = option(
        "admin",
        "none",
        secret(16, 256),
        "what operators have to show; required if admin-host is not this machine alone",
        bounds="16 to 256 characters",
        value="TOKEN",
    )

    log_level: str = option(
        "log",
        "info",
        choice("debug", "info", "warning", "error"),
        "least severe line that is logged; also read from LOG_LEVEL",
        bounds="debug, info, warning, error",
        value="debug|info|warning|error",
    )
    log_format: str = _choice("log", "text json", "form of a log line")
    rejects: str | None = option(
        "log",
        "none",
        file,
        "file for all that is not routed, as lines of JSON",
        bounds="path of a file",
        value="FILE",
    )
    rejects_size: int = _size(
        "log", "64MiB", "1MiB", "1024GiB", "size at which that file is renamed and begun anew"
    )
    rejects_files: int = _whole("log", 5, 2, 1000, "such files kept, the newest included")

    @property
    def source(self) -> PortSettings:
        """The source port's own settings."""
        return PortSettings(
            name="source",
            host=self.source_host,
            number=self.source_port,
            allow=self.allow_source,
            tls_cert=self.source_tls_cert,
            tls_key=self.source_tls_key,
            tls_ca=self.source_tls_ca,
        )

    @property
    def client(self) -> PortSettings:
        """The client port's own settings."""
        return PortSettings(
            name="client",
            host=self.client_host,
            number=self.client_port,
            allow=self.allow_client,
            tls_cert=self.client_tls_cert,
            tls_key=self.client_tls_key,
            tls_ca=self.client_tls_ca,
        )


def flag_of(name: str) -> str:
    """The flag of the option with that field name."""
    return "--" + key_of(name)


def variable_of(name: str) -> str:
    """The environment variable of the option with that field name."""
    return "MAZE_" + name.upper()


def key_of(name: str) -> str:
    """The TOML key of the option with that field name."""
    return name.replace("_", "-")


def read_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings that command line, environment and file add up to.

    Raises SystemExit, after one line on stderr, with status 2 for whatever is
    wrong in them and with status 0 for ``--help`` and ``--version``.
    """
    try:
        return parse_settings(arguments, environment)
    except SettingsError as error:
        print(f"maze: {error}", file=sys.stderr)
        sys.exit(2)


def parse_settings(
    arguments: Sequence[str] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """The settings as ``read_settings`` reads them; raises SettingsError for what is wrong."""
    variables = dict(os.environ if environment is None else environment)
    log_level_variable = variable_of("log_level")
    if variables.get("LOG_LEVEL") and log_level_variable not in variables:
        log_level_variable = "LOG_LEVEL"
    parser = _parser({"log_level": log_level_variable})
    values = vars(parser.parse_args(arguments, env_vars=variables))
    settings = Settings(**{spec.name: values[spec.name] for spec in fields(Settings)})
    if fault := admin_fault(settings) or _port_fault(settings):
        parser.error(fault)
    return settings


def unknown_variables(environment: Mapping[str, str]) -> list[str]:
    """The variables that look like those of options, and are not."""
    known = {variable_of(spec.name) for spec in fields(Settings)} | {"MAZE_CONFIG", "MAZE_PURE"}
    return sorted(name for name in environment if name.startswith("MAZE_") and name not in known)


def admin_fault(settings: Settings) -> str | None:
    """What is wrong with the admin port's options taken together, if anything is."""
    if not settings.admin_port or settings.admin_token or is_loopback(settings.admin_host):
        return None
    return (
        f"--admin-host {settings.admin_host} can be reached from other machines: set "
        "MAZE_ADMIN_TOKEN to a secret of 16 characters or more, or --admin-port 0"
    )


def _port_fault(settings: Settings) -> str | None:
    """Which two of the server's own ports are the same one, if any are.

    Left to the system, the second would be told that somebody else has the port.
    """
    seen: dict[tuple[str, int], str] = {}
    for name in ("source", "client", "admin"):
        host, port = getattr(settings, f"{name}_host"), getattr(settings, f"{name}_port")
        other = seen.setdefault((host, port), name) if port > 0 else name
        if other != name:
            return f"--{other}-port and --{name}-port are both {port}: each needs one of its own"
    return None


def is_loopback(name: str) -> bool:
    """Whether a host is this machine alone; a name other than localhost is taken not to be."""
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


_UNREADABLE = re.compile(r"Unable to open config file: (.*)\. Error: \[Errno \d+\] (.*): '.*'")
"""the parser's own words for it"""


class _Parser(configargparse.ArgumentParser):  # type: ignore[misc]
    def error(self, message: str) -> NoReturn:
        """One clear line."""
        line = " ".join(message.split())
        if unreadable := _UNREADABLE.fullmatch(line):
            line = "--config (or MAZE_CONFIG): cannot read {}: {}".format(*unreadable.groups())
        elif line.startswith("unrecognized arguments: "):
            line += "; see --help for those there are"
        raise SettingsError(line)


def _parser(variables: Mapping[str, str]) -> _Parser:
    """The parser; ``variables`` are those that go by another name than ``variable_of``'s."""
    parser = _Parser(
        prog="python -m maze.serve",
        description="Restores the order of an event stream and forwards to every connected "
        "user exactly the events meant for that user.",
        epilog="Units: ms, s, m, h; B, kB, KiB, MB, MiB, GB, GiB. Every option is also an "
        "environment variable (--source-port: MAZE_SOURCE_PORT) and a key of the TOML file "
        "(source-port = 9090). A flag beats a variable, a variable the file.",
        config_file_parser_class=SettingsFile({key_of(spec.name) for spec in fields(Settings)}),
        add_env_var_help=False,
        add_config_file_help=False,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"Follower Maze {__version__}")
    parser.add_argument(
        "--config", metavar="FILE", env_var="MAZE_CONFIG", is_config_file=True, help="a TOML file"
    )
    groups = {key: parser.add_argument_group(title) for key, title in GROUPS.items()}
    for spec in fields(Settings):
        meta = spec.metadata
        groups[meta["group"]].add_argument(
            flag_of(spec.name),
            env_var=variables.get(spec.name, variable_of(spec.name)),
            type=_named(spec, parser),
            default=meta["default"],
            metavar=meta["value"],
            help=_help(spec),
        )
    return parser


def _named(spec: Field[Any], parser: _Parser) -> Callable[[str], Any]:
    """The option's parser, with where the wrong value stands in its error."""

    def parse(text: str) -> Any:
        try:
            return spec.metadata["parse"](text)
        except ValueError as error:
            parser.error(f"{_origin(spec.name, parser)}: {error}")

    return parse


def _origin(name: str, parser: _Parser) -> str:
    for source, settings in parser.get_source_to_settings_dict().items():
        kind, _, place = source.partition("|")
        for key, (action, _) in settings.items():
            if action is not None and action.dest == name and kind != "defaults":
                return f"{place}: {key}" if place else key
    return flag_of(name)


def _help(spec: Field[Any]) -> str:
    meta = spec.metadata
    bounds = f"{meta['bounds']}; " if " to " in meta["bounds"] else ""
    return f"{meta['help']} ({bounds}default {meta['default']})"
