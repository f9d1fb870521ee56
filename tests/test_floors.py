"""The floors: a room imports only from the rooms below it, and no imports form a circle."""

import ast
from collections.abc import Collection
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = {
    "maze": (
        *(
            "__init__",
            "errors",
            "core",
            "net",
            "settings",
            "log",
            "journal",
            "listener",
            "pipeline",
            "feed",
        ),
        *("server", "admin", "process", "roles", "serve"),
    ),
    "simulator": (
        *("__init__", "errors", "stream", "parameter_types", "flags", "parameters"),
        *("play", "verdict", "report", "run", "bench", "cli", "__main__"),
    ),
}
"""The rooms and modules at the top of each package, the lowest first."""


def modules() -> dict[str, Path]:
    files = [file for package in ("maze", "simulator") for file in (ROOT / package).rglob("*.py")]
    names = (".".join(file.relative_to(ROOT).with_suffix("").parts) for file in files)
    return dict(zip((name.removesuffix(".__init__") for name in names), files, strict=True))


def imported(file: Path, known: Collection[str]) -> set[str]:
    """Return the known modules that a file imports: in functions and for type checkers, too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            while name and name not in known:
                name = name.rpartition(".")[0]  # noqa: PLW2901
            found.add(name)
    return found - {""}


def room(module: str) -> str:
    return [*module.split("."), "__init__"][1]


@pytest.mark.parametrize("package", FLOORS)
def test_a_room_imports_only_from_those_below(package: str) -> None:
    known = modules()
    floor = FLOORS[package].index
    graph = {name: imported(known[name], known) for name in known if name.startswith(package)}
    for module, below in graph.items():
        for name in below:
            assert name.startswith(package), f"{module} imports {name}, of another package"
            same = room(name) == room(module)
            assert same or floor(room(name)) < floor(room(module)), f"{module} imports {name}"
    # Raises CycleError with the modules of the circle.
    TopologicalSorter(graph).prepare()
