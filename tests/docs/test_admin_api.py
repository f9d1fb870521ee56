"""docs/admin-api.md says what the admin port answers."""

import inspect
import re
from pathlib import Path

from maze.admin import application as http
from maze.admin import listener as server

DOCUMENT = Path(__file__).parents[2] / "docs" / "admin-api.md"


def test_the_manual_lists_every_status_of_an_error() -> None:
    code = "".join(inspect.getsource(module) for module in (http, server))
    used = set(re.findall(r"(?:HttpError|_RefusedError|_error|_json)\([^()]*?\b([45]\d\d)\b", code))
    manual = DOCUMENT.read_text(encoding="utf-8")
    table = manual.partition("<!-- statuses: begin")[2].partition("<!-- statuses: end")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == sorted(used)
    assert {"400", "408", "500", "503"} < used
