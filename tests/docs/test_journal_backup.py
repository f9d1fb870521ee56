"""The backup of docs/journal.md, taken beside a server that writes the journal."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from end_to_end.running import ROOT, Child

pytestmark = pytest.mark.realtime


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="there is no sqlite3 command")
def test_a_backup_of_a_running_server_is_whole_and_private(tmp_path: Path) -> None:
    journal, copy = tmp_path / "journal", tmp_path / "copy"
    recipe = (ROOT / "docs" / "journal.md").read_text(encoding="utf-8")
    (lines,) = re.findall(r"<!-- backup: begin.*?```sh\n(.*?)```", recipe, re.DOTALL)
    script = lines.replace("/var/lib/maze/journal", str(journal))
    script = script.replace("/backup/journal", str(copy)).replace("python -m", '"$PYTHON" -m')
    with Child("--journal", str(journal)).ready() as child:
        child.await_first_broadcast(child.client(1), child.source())
        run = subprocess.run(
            ["sh", "-euc", script],
            env=os.environ | {"PYTHON": sys.executable},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (run.returncode, run.stderr) == (0, "")
    assert re.fullmatch(r"no faults \(batches: [1-9]\d*, snapshots: 0\)\n", run.stdout)
    assert copy.stat().st_mode & 0o777 == 0o600
