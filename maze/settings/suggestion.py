"""Suggest the name that a misspelled one was probably meant to be."""

from collections.abc import Collection
from difflib import get_close_matches

SEE_HELP = "see --help for all options"


def suggestion(wrong: str, names: Collection[str], prefix: str = "") -> str:
    """Return what to do about a wrong name: use the most similar of ``names``, or see --help.

    All names begin with ``prefix``, the wrong one included, so the comparison ignores it.
    """
    bare = [name.removeprefix(prefix) for name in names]
    nearest = get_close_matches(wrong.removeprefix(prefix), bare, n=1)
    return f"did you mean {prefix}{nearest[0]}? see --help" if nearest else SEE_HELP
