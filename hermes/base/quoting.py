"""Makes text from outside fit for a reason, a log or a terminal. Pure.

Invariant: the result holds no character that a terminal might obey.
"""

from __future__ import annotations


def blank(text: str) -> str:
    r"""Return the text with a space for each character that a terminal might obey.

    >>> blank("one\ttwo")
    'one two'
    """
    # isprintable is False for control characters and for every separator but the space.
    return "".join(char if char.isprintable() else " " for char in text)


def printable(text: str) -> str:
    r"""Return the text with every character escaped that a terminal might obey.

    >>> printable("bell\a")
    'bell\\x07'
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def clean(text: str, most: int) -> str:
    r"""Return one line of a text from outside: only printable characters, at most ``most`` of them.

    >>> clean("no such\ttable:\n events", most=16)
    'no such table: …'
    """
    # Blank first: a control character becomes white space, and runs of it become one space.
    line = " ".join(blank(text).split())
    return line if len(line) <= most else line[: most - 1] + "…"


def explain_undecodable(error: UnicodeDecodeError) -> tuple[int, str]:
    r"""Return the line of a file that is not UTF-8, and what to do. Repeats no byte of the file, which may be a secret.

    >>> try:
    ...     _ = b"a\n\xff".decode()
    ... except UnicodeDecodeError as error:
    ...     explain_undecodable(error)
    (2, 'it is not text in UTF-8: save the file as UTF-8')
    """
    # The byte order marks of UTF-16, in which the ``>`` of Windows PowerShell writes a file.
    wide = ", it looks like UTF-16" if error.object[:2] in {b"\xff\xfe", b"\xfe\xff"} else ""
    return error.object.count(b"\n", 0, error.start) + 1, f"it is not text in UTF-8{wide}: save the file as UTF-8"
