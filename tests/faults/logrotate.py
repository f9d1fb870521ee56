"""The logrotate of ``deploy/logrotate.conf``, for the reject file of a test."""

from __future__ import annotations

import gzip
import subprocess
from pathlib import Path

from end_to_end.running import ROOT
from programs import installed

CONFIGURATION = ROOT / "deploy" / "logrotate.conf"


class Logrotate:
    """Rotates a file as the configuration says, with some of its lines replaced.

    ``signal`` is the process that is sent SIGHUP; None for no signal.
    """

    def __init__(self, folder: Path, file: Path, replaced: dict[str, str], signal: int | None):
        self._command = [installed("logrotate"), "--force", "--state", str(folder / "state")]
        self._path = folder / "logrotate.conf"
        self._file = file
        text = CONFIGURATION.read_text(encoding="utf-8")
        replaced |= {
            "/var/lib/follower-maze/rejects.jsonl {": f"{file} {{",
            "        systemctl reload follower-maze": f"kill -HUP {signal}" if signal else "true",
        }
        for line, other in replaced.items():
            assert text.count(f"{line}\n") == 1, line
            text = text.replace(f"{line}\n", f"{other}\n")
        self._path.write_text(text, encoding="utf-8")
        self._path.chmod(0o600)

    def run(self) -> None:
        """Rotate once; nothing may go wrong."""
        command = [*self._command, str(self._path)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert not done.returncode, done.stderr
        assert not done.stderr, done.stderr

    def rotated(self) -> list[Path]:
        """Return the files that were rotated, the oldest first."""
        return sorted(self._file.parent.glob(f"{self._file.name}-*"))

    def lines(self) -> list[bytes]:
        """Return the lines of all files, the oldest first."""
        files = [*self.rotated(), *([self._file] if self._file.exists() else [])]
        return [line for file in files for line in _content(file).splitlines(keepends=True)]


def _content(file: Path) -> bytes:
    data = file.read_bytes()
    return gzip.decompress(data) if file.suffix == ".gz" else data
