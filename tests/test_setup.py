"""The build, where there is no compiler."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_without_a_compiler_one_line_says_which_core_serves(tmp_path: Path) -> None:
    places = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    run = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", *places],
        cwd=ROOT,
        env=os.environ | {"CC": str(tmp_path / "no-compiler")},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0
    (line,) = filter(None, (run.stdout + run.stderr).splitlines())
    assert "the pure core will serve" in line
    assert "C compiler" in line
    assert "no-compiler" in line
    assert not list(tmp_path.rglob("*.so"))
