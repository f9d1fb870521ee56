"""The build: its version, what is packaged, and what happens where there is no compiler."""

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

import maze
import simulator
from maze.serve import run

ROOT = Path(__file__).parents[1]


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_package_is_installed() -> None:
    modules = [path for top in ("maze", "simulator") for path in (ROOT / top).rglob("*.py")]
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in modules}
    packages = project()["tool"]["setuptools"]["packages"]
    assert sorted(packages) == sorted(folders | {"maze.admin.page"})  # which has no module


def test_the_console_command_is_the_module_s() -> None:
    (name, value), *others = project()["project"]["scripts"].items()
    assert (name, others) == ("follower-maze", [])
    assert EntryPoint(name, value, "console_scripts").load() is run


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


def test_a_build_that_fails_half_way_leaves_no_module(tmp_path: Path) -> None:
    """Not even those of an older build: some without the others, or older ones, cannot serve."""
    tree, compiler = tmp_path / "tree", tmp_path / "compiler"
    folder = tree / "maze" / "core" / "_compiled"
    shutil.copytree(ROOT / "maze", tree / "maze", ignore=shutil.ignore_patterns("*.so", "*.c"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, tree)
    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    (folder / f"events{suffix}").touch()
    compiler.write_text(
        "#!/bin/sh\n"
        'case "$*" in *graph*) exit 1;; esac\n'
        'while [ $# -gt 1 ]; do [ "$1" = -o ] && : > "$2"; shift; done\n'
    )
    compiler.chmod(0o755)
    run = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=tree,
        env=os.environ | {"CC": str(compiler), "LDSHARED": str(compiler)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "the pure core will serve" in run.stdout + run.stderr
    assert not list(tree.rglob("*.so"))


def test_both_packages_have_one_version() -> None:
    assert simulator.__version__ == maze.__version__


@pytest.mark.parametrize("missing", ["events", "graph", "payload", "fanout", "outbox", "replay"])
def test_a_compiled_core_that_is_not_whole_does_not_serve(missing: str) -> None:
    program = f"""
import sys
sys.modules["maze.core._compiled.{missing}"] = None
from maze import core
print(core.IMPLEMENTATION, core.Decoder.__module__, core.Fanout.__module__)
"""
    run = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert run.stdout.split() == ["pure", "maze.core.events", "maze.core.fanout"]


def test_a_server_loads_only_what_it_uses() -> None:
    """SQLite takes 1.4 MB, redis-py 10 MB, and the other roles 2 MB."""
    code = "import sys, maze.serve; print(*sys.modules)"
    unmeasured = {name: value for name, value in os.environ.items() if "COVERAGE" not in name}
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=unmeasured,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    modules = set(output.split())
    assert "maze.server" in modules
    assert modules.isdisjoint({"sqlite3", "redis", "maze.roles.parent", "maze.feed.following"})
