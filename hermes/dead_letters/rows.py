"""A letter as a row of a table, and back: what the stores on SQLite and on Postgres share. Pure.

Invariant: what comes back is what went in, byte for byte; only a reason, a foreign sink's words, is first made fit to
be stored (`tidy`). Called by the stores, on their threads where they have some.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import sha256
from typing import TypeAlias

from msgspec import Raw

from hermes.dead_letters.contract import DeadLetter
from hermes.event import Event

MAX_REASON = 2000
"""Characters of a reason that are kept."""

COLUMNS = (
    "number",
    "sink",
    "id",
    "user_id",
    "type",
    "ts",
    "reason",
    "attempts",
    "rejected_at",
    "received_at",
    "payload",
)
"""The columns of a letter, in the order of a `Row`; a table has ``digest`` beside them."""

Row: TypeAlias = tuple[int, str, str, str, str, int, str, int, float, float, bytes]


def identity(event: Event) -> bytes:
    """A digest of all of an event, by which a sink's older letter of the same event is found. 32 bytes."""
    digest = sha256()
    for part in (event.id.encode(), event.user_id.encode(), event.type.encode(), b"%d" % event.timestamp):
        digest.update(b"%d:" % len(part))
        digest.update(part)
    digest.update(event.payload)
    return digest.digest()


def to_row(letter: DeadLetter) -> tuple[str | int | float | bytes, ...]:
    """All columns but ``number``, in their order, and then the digest."""
    event = letter.event
    return (
        letter.sink,
        event.id,
        event.user_id,
        event.type,
        event.timestamp,
        tidy(letter.reason),
        letter.attempts,
        letter.rejected_at,
        letter.received_at,
        bytes(event.payload),
        identity(event),
    )


def from_row(row: Row) -> DeadLetter:
    """The letter that a row holds."""
    number, sink, id_, user_id, type_, timestamp, reason, attempts, rejected_at, received_at, payload = row
    event = Event(id_, user_id, type_, timestamp, Raw(payload))
    return DeadLetter(event, sink, reason, attempts, rejected_at, received_at, number)


def latest(letters: Iterable[DeadLetter]) -> list[tuple[str | int | float | bytes, ...]]:
    """The rows of these letters; of those that are of one sink and event, the last."""
    rows: dict[tuple[object, object], tuple[str | int | float | bytes, ...]] = {}
    for letter in letters:
        row = to_row(letter)
        rows[row[0], row[-1]] = row
    return list(rows.values())


def tidy(reason: str) -> str:
    """A reason that every store can keep: Unicode without U+0000, of at most `MAX_REASON` characters."""
    words = reason[: MAX_REASON + 1].encode(errors="backslashreplace").decode().replace("\0", "\\0")
    return words if len(words) <= MAX_REASON else words[: MAX_REASON - 1] + "…"
