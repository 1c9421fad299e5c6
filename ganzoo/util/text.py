"""Untrusted text made safe for a terminal and a path; suggestions of similar names; errors as one line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names that a plugin may give its records: they fit the grammars of `--models` and `--set`, and a path."""


def printable(text: object, limit: int = 500) -> str:
    """One line without control characters or escape sequences, cut at `limit` characters.

    A byte of a file's name that is not UTF-8 is shown as an escape.
    """
    whole = str(text)
    # A message may have gigabytes: only its beginning is processed.
    begin = whole[: 10 * limit].encode(errors="backslashreplace").decode()
    line = " ".join("".join(character if character.isprintable() else " " for character in begin).split())
    return line if len(line) <= limit and len(whole) <= 10 * limit else line[: limit - 1] + "…"


def slug(text: str, limit: int = 80) -> str:
    """Lower-case letters, digits and dashes only: safe as one component of a path on every system."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:limit].rstrip("-") or "x"


def split_at_commas(text: str) -> tuple[str, ...]:
    """What stands between the commas of a text, without spaces around it, each once."""
    return tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'dcgan'?`, or all known names if none is similar, or an empty text if none is known."""
    names = sorted(set(known))
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return "; did you mean " + " or ".join(f"'{printable(candidate)}'" for candidate in near) + "?"
    return f" (known: {', '.join(printable(candidate) for candidate in names)})" if names else ""


def error_line(error: BaseException) -> str:
    """`ValueError: message`, on one printable line."""
    # A plugin's exception class can override both and raise: type.__dict__ bypasses its metaclass.
    name = printable(type.__dict__["__name__"].__get__(type(error)), 80)
    try:
        message = printable(error)
    except KeyboardInterrupt:
        raise
    except BaseException:
        message = ""
    return f"{name}: {message}" if message else name
