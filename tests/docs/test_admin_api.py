"""docs/admin-api.md says what the admin port answers."""

import inspect
import re
from pathlib import Path

from maze.admin import access, application, listener

DOCUMENT = Path(__file__).parents[2] / "docs" / "admin-api.md"


def test_the_manual_lists_every_status_of_an_error() -> None:
    code = "".join(inspect.getsource(module) for module in (access, application, listener))
    used = set(re.findall(r"(?:HttpError|_RefusedError|\w+_response)\([^()]*?\b([45]\d\d)\b", code))
    manual = DOCUMENT.read_text(encoding="utf-8")
    table = manual.partition("<!-- statuses: begin")[2].partition("<!-- statuses: end")[0]
    assert re.findall(r"^\| (\d+) \|", table, re.MULTILINE) == sorted(used)
    assert {"400", "408", "500", "503"} < used
