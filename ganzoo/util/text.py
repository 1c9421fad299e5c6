"""Text from strangers: names and messages made safe for a terminal and a path; the nearest known names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""What a record's name may look like, so that it fits the grammars of `--models`, `--set` and a path."""


def printable(text: object, limit: int = 500) -> str:
    """One line without control characters or escape sequences, cut at `limit` characters."""
    whole = str(text)
    # Of a message of gigabytes only what may be shown is looked at.
    begin = whole[: 10 * limit]
    line = " ".join("".join(character if character.isprintable() else " " for character in begin).split())
    return line if len(line) <= limit and len(begin) == len(whole) else line[: limit - 1] + "…"


def slug(text: str, limit: int = 80) -> str:
    """Lower-case letters, digits and dashes only: safe as one component of a path on every system."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].rstrip("-") or "x"


def split_at_commas(text: str) -> tuple[str, ...]:
    """What stands between the commas of a text, without spaces around it, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'dcgan'?`, or all the known names where none is near, or nothing where none is known."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(f"'{printable(candidate)}'" for candidate in near) + "?"
    return f" (known: {', '.join(printable(candidate) for candidate in names)})" if names else ""


def error_line(error: BaseException) -> str:
    """`ValueError: message`, on one printable line."""
    # Both may be a stranger's code, and raise: type.__dict__ goes past a metaclass.
    name = printable(type.__dict__["__name__"].__get__(type(error)), 80)
    try:
        message = printable(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        message = ""
    return f"{name}: {message}" if message else name
