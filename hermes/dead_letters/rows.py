"""Turns a letter into a row of a table and back, for the stores on SQLite and on Postgres. Pure.

Invariant: a letter comes back unchanged, byte for byte; only the reason is first made fit to be stored (`tidy`).
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias

import msgspec

from hermes.dead_letters.contract import DeadLetter, Fact, Source

MAX_REASON = 2000
"""Characters of a reason that are kept."""

COLUMNS = (
    "number",
    "part",
    "source",
    "reason",
    "attempts",
    "rejected_at",
    "received_at",
    "facts",
    "body",
)
"""The columns of a letter, in the order of a `Row`; a table has ``digest`` beside them."""

Row: TypeAlias = tuple[int, str, str, str, int, float, float, str, bytes]

_facts = msgspec.json.Decoder(dict[str, Fact])


def identity(letter: DeadLetter) -> bytes:
    """A digest of the facts and the body, by which a store finds the older letter of the same body. 32 bytes.

    The digest is stored, so this function never changes.

    >>> facts = {"id": "7", "type": "click"}
    >>> identity(DeadLetter(Source("events", "postgres"), facts, b"{}", "no", 1, 9.0, 1.0)).hex()[:12]
    '16abb0283a12'
    """
    digest = sha256()
    # Values alone: letters of schema 1 were stored with a digest of four columns, without names.
    for fact in letter.facts.values():
        text = str(fact).encode()
        # The length keeps ("ab", "c") and ("a", "bc") apart.
        digest.update(b"%d:" % len(text))
        digest.update(text)
    digest.update(letter.body)
    return digest.digest()


def to_row(letter: DeadLetter) -> tuple[str | int | float | bytes, ...]:
    """All columns but ``number``, in the order of `COLUMNS`, and then the digest."""
    return (
        letter.source.part,
        letter.source.name,
        tidy(letter.reason),
        letter.attempts,
        letter.rejected_at,
        letter.received_at,
        msgspec.json.encode(letter.facts).decode(),
        letter.body,
        identity(letter),
    )


def from_row(row: Row) -> DeadLetter:
    """The letter that a row holds."""
    number, part, name, reason, attempts, rejected_at, received_at, facts, body = row
    return DeadLetter(
        Source(part, name), _facts.decode(facts), body, reason, attempts, rejected_at, received_at, number
    )


def latest(letters: Iterable[DeadLetter]) -> list[tuple[str | int | float | bytes, ...]]:
    """The rows of these letters. If letters have the same source and body, only the last of them gets a row."""

    rows: dict[tuple[object, ...], tuple[str | int | float | bytes, ...]] = {}
    for letter in letters:
        row = to_row(letter)
        # Part, source and digest: the key by which the tables find the older letter.
        rows[row[0], row[1], row[-1]] = row
    return list(rows.values())


def tidy(reason: str) -> str:
    r"""A reason that every store can keep: Unicode without U+0000, of at most `MAX_REASON` characters.

    >>> tidy("bad \0 \ud800")
    'bad \\0 \\ud800'
    """
    # The words are a foreign sink's. Postgres keeps no U+0000 in text, and no encoding of UTF-8 has half a surrogate.
    # It is cut before it is encoded, so that a reason of many megabytes is not copied whole.
    words = reason[: MAX_REASON + 1].encode(errors="backslashreplace").decode().replace("\0", "\\0")
    return words if len(words) <= MAX_REASON else words[: MAX_REASON - 1] + "…"
