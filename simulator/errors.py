"""The reasons for which a run cannot take place at all.

They end the simulator with status 2 and their text on one line. What a server does wrong once it
takes part in a run is never an exception: it is a verdict.
"""

from importlib.util import find_spec


class SimulatorError(Exception):
    """The run cannot take place; the text is the one line that the user reads."""


class ParameterError(SimulatorError):
    """A flag or an environment variable has a value that makes no sense."""


class ConnectError(SimulatorError):
    """No server answers where one was looked for, or this machine cannot open the connections."""


class RefusedError(SimulatorError):
    """The server let nobody in, so that there was no run."""


class ServerProcessError(SimulatorError):
    """The server that the simulator started did not become ready."""


class OutputError(SimulatorError):
    """A file that was asked for cannot be written."""


class RecordingError(SimulatorError):
    """A file is not a whole recording that this simulator can replay."""


def check_installed(what: str, *packages: str) -> None:
    """Raises SimulatorError if a package is missing that `what` needs."""
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        names = " and ".join(missing)
        raise SimulatorError(
            f"{what} needs {names}: pip install 'follower-maze[measuring]', "
            "or in a checkout pip install -r requirements.txt"
        )
