"""Words of somebody else, made fit for a reason or a log. Pure. Called by whoever quotes a server."""

from __future__ import annotations


def clean(text: str, most: int) -> str:
    """One line of printable characters, at most ``most`` of them."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text).split())
    return line if len(line) <= most else line[: most - 1] + "…"
