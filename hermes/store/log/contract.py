"""Declares the log: an append-only sequence of records with four verbs (append, read, trim, take a snapshot).

Invariants, which `hermes.testing.check_log` tries on every engine:

- Indexes count records from 0, without a gap. An index is never used again, even if its record was lost.
  ``first <= next``; a record is never changed.
- When `append` has returned, its records are durable by the engine's own standard: they survive a crash of the process
  (except with the engine ``memory``). Concurrent appends share commits. The records of one append are contiguous.
- When `append` has raised, none of its records is in the log, and none will be.
- `trim` gives the space of the records back, and they are never read again.
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
    """The saved state that stands for all records below ``index``; the format of ``state`` is its writer's."""

    index: int
    state: bytes


@dataclass(frozen=True, slots=True)
class Loss:
    """``records`` acknowledged records, from index ``first`` on, that were missing when the log was opened.

    ``before`` holds the first bytes of the record before the loss, ``last`` those of the newest acknowledged record,
    lost or not. Either is empty if it is unknown.
    """

    first: int = 0
    records: int = 0
    # The event journal reads the numbers of its events from these bytes, and so knows how many events are gone.
    before: bytes = b""
    last: bytes = b""


NO_LOSS = Loss()


@dataclass(frozen=True, slots=True)
class LogStatistics:
    """The extent of a log, and its counts since it was opened."""

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
    """The acknowledged records that were missing when the log was opened."""


class Log(Protocol):
    """An open log. Each engine has an async context manager ``open_<engine>_log(...)`` that yields one.

    How a consumer uses a log::

        async with open_sqlite_log(folder) as log:
            index = await log.append([b"one", b"two"])  # both are durable now
            for record in await log.read(index):
                handle(record.index, record.data)
            await log.take_snapshot(log.next, state)
            await log.trim(log.next)  # the snapshot stands for the records
    """

    @property
    def first(self) -> int:
        """Index of the oldest record that is kept; equal to ``next`` when there is none."""

    @property
    def next(self) -> int:
        """Index that the next record gets."""

    @property
    def snapshot(self) -> Snapshot | None:
        """The latest snapshot that `take_snapshot` made durable, also in an earlier process; None if there is none."""

    async def append(self, records: Sequence[bytes], *, expected_index: int | None = None) -> int:
        """Append one or more records; return the index of the first once they are durable.

        A call that is cancelled may have appended its records or not.

        Raises `hermes.StaleWriter` if the next index is not ``expected_index``, `hermes.LogFull` if there is no room,
        `hermes.LogUnavailable` if the storage fails and a later append may succeed, and `hermes.LogDamaged` if no later
        append can succeed. Raises ValueError if ``records`` is empty or a record is larger than
        `hermes.store.log.rows.MAX_RECORD_BYTES`.
        """

    async def read(self, from_index: int, *, max_records: int = 1000, max_bytes: int = 8 * 2**20) -> list[Record]:
        """Records in order from ``from_index`` on: at least one if there is any, and no more than the limits allow.

        Reads the records that had been appended when `read` was called. A ``from_index`` below ``first`` starts at
        ``first``. Lost records (`hermes log repair`, a damaged end) are skipped, so look at the index of each record.
        An empty list means that the log has no record between ``from_index`` and the ``next`` of the call. Runs beside
        appends.

        Raises `hermes.LogUnavailable`, and `hermes.LogDamaged` if the first of the records cannot be read.
        """

    async def trim(self, to_index: int) -> None:
        """Forget every record below ``to_index`` and give its space back; beyond ``next`` means ``next``.

        Appends go on meanwhile. A call that is cancelled, or fails, is completed by the next one.
        Raises `hermes.LogUnavailable`, `hermes.LogDamaged`.
        """

    async def take_snapshot(self, index: int, state: bytes) -> None:
        """Keep ``state`` durably in the place of the last snapshot. Raises as `trim` does."""

    async def count_unowned(self) -> int:
        """Count the other logs of the same storage that keep records and have no owner, so nobody delivers them.

        Returns 0 if the logs of this engine have no owners. Raises `hermes.LogUnavailable`.
        """

    def statistics(self) -> LogStatistics:
        """The extent and the counts of the log. Cheap."""
