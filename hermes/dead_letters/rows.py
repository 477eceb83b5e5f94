"""A letter as a row of a table, and back: what the stores on SQLite and on Postgres share. Pure.

Invariant: what comes back is what went in, byte for byte; only a reason, a foreign sink's words, is first made fit to
be stored (`tidy`). Called by the stores, on their threads where they have some.
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
    """A digest of the facts and the body, by which the older letter of the same body is found. 32 bytes.

    It is stored, so it never changes: the names of the facts are not in it, for the letters of schema 1 had none.
    """
    digest = sha256()
    for fact in letter.facts.values():
        text = str(fact).encode()
        digest.update(b"%d:" % len(text))
        digest.update(text)
    digest.update(letter.body)
    return digest.digest()


def to_row(letter: DeadLetter) -> tuple[str | int | float | bytes, ...]:
    """All columns but ``number``, in their order, and then the digest."""
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
    """The rows of these letters; of those that are of one source and body, the last."""
    rows: dict[tuple[object, ...], tuple[str | int | float | bytes, ...]] = {}
    for letter in letters:
        row = to_row(letter)
        rows[row[0], row[1], row[-1]] = row
    return list(rows.values())


def tidy(reason: str) -> str:
    """A reason that every store can keep: Unicode without U+0000, of at most `MAX_REASON` characters."""
    words = reason[: MAX_REASON + 1].encode(errors="backslashreplace").decode().replace("\0", "\\0")
    return words if len(words) <= MAX_REASON else words[: MAX_REASON - 1] + "…"
