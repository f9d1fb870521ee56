"""What the log advises about where a stream begins."""

import pytest

from maze.pipeline.begin_advice import BeginAdvice
from maze.settings.options import Settings

RESET = "stop the server, run python -m maze.journal reset /var/j --first-sequence 5, and start "


@pytest.mark.parametrize(
    ("journal", "begin_at", "begin_anew"),
    [
        (None, "start the server with --first-sequence 5", "stop the server and start it again"),
        (
            "/var/j",
            RESET + "the server with --first-sequence 5",
            "stop the server and run python -m maze.journal reset /var/j",
        ),
        (
            "redis://:secret@localhost",
            "start the server with --first-sequence 5 and another --journal-name",
            "stop the server and start it with another --journal-name",
        ),
    ],
)
def test_what_is_to_do_depends_on_the_journal(
    journal: str | None, begin_at: str, begin_anew: str
) -> None:
    advice = BeginAdvice(Settings(journal=journal))
    assert advice.begin_at(5) == begin_at
    assert advice.begin_anew() == begin_anew


def test_a_temporary_journal_is_not_named() -> None:
    advice = BeginAdvice(Settings(journal="/tmp/maze-1/journal"))
    advice.forget_journal()
    assert advice.begin_at(5) == "start the server with --first-sequence 5"
    assert advice.begin_anew() == "stop the server and start it again"
