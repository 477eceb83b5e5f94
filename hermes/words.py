"""Words of somebody else, made fit for a reason, a log or a terminal. Pure. Called by whoever quotes others."""

from __future__ import annotations


def blank(text: str) -> str:
    """The text with a space for each character that a terminal might obey."""
    return "".join(char if char.isprintable() else " " for char in text)


def printable(text: str) -> str:
    """The text with everything escaped that a terminal might obey."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def clean(text: str, most: int) -> str:
    r"""Make one line of a text from outside: only printable characters, at most ``most`` of them.

    >>> clean("no such\ttable:\n events", most=16)
    'no such table: …'
    """
    line = " ".join(blank(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
