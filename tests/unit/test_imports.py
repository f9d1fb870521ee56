"""Which module of ``maze`` imports which; imports for type checking alone count, too."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = {_name(path): path for path in (ROOT / "maze").rglob("*.py")}


def _imports(module: str) -> set[str]:
    """The other modules of ``maze`` that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                found.add(name if name in FILES else node.module)
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return (found & FILES.keys()) - {module}


def test_no_module_imports_itself_by_way_of_others() -> None:
    imports = {module: _imports(module) for module in FILES}
    while leaves := {module for module, imported in imports.items() if not imported & {*imports}}:
        imports = {module: imports[module] for module in imports.keys() - leaves}
    circles = {module: sorted(imports[module] & imports.keys()) for module in sorted(imports)}
    assert not circles, "these import each other, or others that do"
