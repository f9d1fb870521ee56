"""The build: its version and packages, and what it does without a compiler."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import maze
import simulator

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


def test_both_packages_have_one_version() -> None:
    assert simulator.__version__ == maze.__version__


def test_every_package_is_installed() -> None:
    """Hold the list in pyproject.toml against the folders that there are."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        ".".join(file.parent.relative_to(ROOT).parts)
        for top in ("maze", "simulator")
        for file in (ROOT / top).rglob("__init__.py")
    }
    assert set(settings["tool"]["setuptools"]["packages"]) >= found
