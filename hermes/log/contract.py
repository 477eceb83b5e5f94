"""What a log is: an append-only sequence of records with four verbs, the one seam under all that Hermes keeps.

Invariants, which `hermes.testing.check_log` tries on every engine:

- Indexes count records from 0, without a gap, and never come again, not even that of a record that was lost;
  ``first <= next``; a record is never changed.
- `append` has returned: its records are durable by the engine's own standard and survive a crash of the process (and,
  but for the engine ``memory``, its loss). Concurrent appends share commits. The records of one append are contiguous.
- `append` has raised: nothing of it is in the log, and nothing of it will be.
- What was cut away by `trim` gives its space back and is never read again.

Implemented by the engines beside this file; used by the event journal, and by whatever needs a durable order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One record, as it was appended, and its place."""

    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a reader of the log has made of all records below ``index``; ``state`` is in its own format."""

    index: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Loss:
    """Records from ``first`` on, ``records`` in all, had been acknowledged and were gone when the log was opened.

    ``before`` is how the record before them begins, and ``last`` how the newest that was acknowledged does, lost or
    not; empty: not known.
    """

    first: int = 0
    records: int = 0
    before: bytes = b""
    last: bytes = b""


NO_LOSS = Loss()


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """What a log holds and has done since it was opened."""

    first: int
    """Index of the oldest record that is kept; equal to ``next`` when there is none."""
    next: int
    """Index that the next record gets."""
    bytes: int
    """Bytes of the records that are kept, without the engine's own overhead."""
    appends: int
    commits: int
    """Appends share them, so this is at most ``appends`` for appends that succeeded."""
    failed_commits: int
    lost: Loss = NO_LOSS
    """What was gone when the log was opened."""


class Log(Protocol):
    """An open log; engines offer ``open_<engine>_log(...)`` as async context managers."""

    @property
    def first(self) -> int:
        """Index of the oldest record that is kept; equal to ``next`` when there is none."""

    @property
    def next(self) -> int:
        """Index that the next record gets."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The latest that `take_snapshot` made durable, also in an earlier life of the process."""

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        """Append one or more records; return the index of the first once they are durable.

        A call that is cancelled may have appended its records or not.

        Raises `hermes.StaleWriter` when the next index is not ``expected_index``, `hermes.LogFull` for want of room,
        `hermes.LogUnavailable` when the storage fails: an append may succeed later. `hermes.LogDamaged` when it cannot.
        ValueError for no records, or one that is too large for any engine (`hermes.log.rows.MAX_RECORD_BYTES`).
        """

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        """Records in order from ``from_index`` on: at least one if there is any, and no more than the limits allow.

        Those that had been appended when it was called. An index below ``first`` starts at ``first``, and a record
        that was lost (`hermes log repair`, a damaged end) is skipped, so the index of each record has to be looked at.
        No record at all: there is none to read below what was ``next`` when it was called. Runs beside appends.

        Raises `hermes.LogUnavailable`, and `hermes.LogDamaged` if the first of them cannot be read.
        """

    async def trim(self, to_index: int) -> None:
        """Forget every record below ``to_index`` and give its space back; beyond ``next`` means ``next``.

        Appends go on meanwhile. A call that is cancelled, or fails, is completed by the next one.
        Raises `hermes.LogUnavailable`, `hermes.LogDamaged`.
        """

    async def take_snapshot(self, index: int, state: bytes) -> None:
        """Keep ``state`` durably in the place of the last snapshot. Raises as `trim` does."""

    async def count_unowned(self) -> int:
        """How many other logs of the same storage keep records that nobody delivers, for they have no owner.

        0 where logs have no owners. Raises `hermes.LogUnavailable`.
        """

    def statistics(self) -> LogStatistics:
        """What the log holds and has done. Cheap."""
