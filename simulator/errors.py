"""Errors that keep a run from taking place.

They end the simulator with status 2 and a message of one line. What a server does wrong during a
run is not an error but part of the verdict.
"""

from importlib.util import find_spec


class SimulatorError(Exception):
    """The run cannot take place. The message is the one line that the user reads."""


class ParameterError(SimulatorError):
    """A flag or an environment variable has an invalid value."""


class ConnectError(SimulatorError):
    """No server answers at the address, or this machine cannot open enough connections."""


class RefusedError(SimulatorError):
    """The server refused the source, or every client, before the first event."""


class ServerProcessError(SimulatorError):
    """The server that the simulator started did not become ready."""


class OutputError(SimulatorError):
    """An output file cannot be written."""


class RecordingError(SimulatorError):
    """A file is not a complete recording of a version that this simulator reads."""


def check_installed(feature: str, *packages: str) -> None:
    """Raise SimulatorError if a package that the feature needs is missing."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        names = " and ".join(missing)
        raise SimulatorError(
            f"{feature} needs {names}: pip install 'follower-maze[measuring]', "
            "or in a checkout pip install -r requirements.txt"
        )
