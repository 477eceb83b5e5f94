"""Lets appends share commits (group commit): appends that come during a commit wait, and share the next commit.

There is no task of its own: the first append becomes the leader, which commits all waiting appends and gives each its
outcome; then the oldest append that came meanwhile becomes the leader.
Invariants: records are committed in the order of their `append` calls, one commit at a time; an append gets its outcome
from exactly one commit, or was cancelled before a commit took it; a failed commit fails all of its appends, and the
next commit begins at the same index.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from hermes.base.errors import HermesError, StaleWriter

MAX_COMMIT_RECORDS = 100_000
MAX_COMMIT_BYTES = 8 * 2**20
"""A commit that has this much takes no further append, so that the appends that wait do not wait long."""

Write = Callable[[int, list[bytes]], Awaitable[None]]


class _Append:
    """One call of `GroupCommit.append`. When ``turn`` is set, the append has its ``outcome``, or is the leader."""

    __slots__ = ("expected_index", "outcome", "records", "resolved", "size", "turn", "withdrawn")

    def __init__(self, records: Sequence[bytes], expected_index: int | None) -> None:
        self.records = records
        self.size = sum(map(len, records))
        self.expected_index = expected_index
        self.turn = trio.Event()
        self.withdrawn = False
        self.resolved = False
        self.outcome: int | HermesError

    def resolve(self, outcome: int | HermesError) -> None:
        self.outcome = outcome
        self.resolved = True
        self.turn.set()


class GroupCommit:
    """Appends that share commits. ``write(index, records)`` commits records from ``index`` on; calls never overlap.

    ``write`` returns when all records are durable, raises a `HermesError` when none is durable or will be, and may
    raise `trio.Cancelled` only before the commit has begun. An engine passes its own commit::

        group = GroupCommit(next_index=0, write=self._commit)
        index = await group.append([b"one", b"two"], expected_index=None)
    """

    def __init__(self, next_index: int, write: Write) -> None:
        self.next = next_index
        self.appends = self.commits = self.failed_commits = 0
        self._write = write
        # The first one is the leader, until it has taken the appends that it commits.
        # No bound of its own: each caller waits with one append, so the callers bound the queue.
        self._waiting: deque[_Append] = deque()
        self._led = False

    async def append(self, records: Sequence[bytes], expected_index: int | None) -> int:
        """Return the index of the first record once all are durable. Raises as ``write`` does, and `StaleWriter`."""
        append = _Append(records, expected_index)
        self._waiting.append(append)
        if self._led:
            await self._wait_turn(append)
        else:
            self._led = True
        if not append.resolved:
            await self._lead()
        outcome = append.outcome
        if isinstance(outcome, int):
            return outcome
        del append.outcome
        try:
            # Several appends raise the same object, so each begins with an empty traceback.
            raise outcome.with_traceback(None)
        finally:
            # The error holds this frame by its traceback. If the frame held the error too, the records of a refused
            # append would stay in memory until the garbage collector runs, which it rarely does.
            del outcome

    async def _wait_turn(self, append: _Append) -> None:
        try:
            await append.turn.wait()
        except trio.Cancelled:
            append.withdrawn = True
            # This append became the leader after it was cancelled: unless it hands the lead on, the others wait for
            # ever.
            if append.turn.is_set() and not append.resolved:
                self._hand_on()
            raise

    async def _lead(self) -> None:
        try:
            # Lets tasks that are ready append too: measured, this saves a third of the commits.
            await trio.lowlevel.checkpoint()
        except trio.Cancelled:
            # The leader is the oldest append, so it stands first.
            self._waiting.popleft()
            self._hand_on()
            raise
        taken = self._take()
        try:
            placed, records = self._place(taken)
            if records:
                await self._write(self.next, records)
        except HermesError as error:
            # `self.next` stays, so the next commit begins at the same index and leaves no gap.
            self.failed_commits += 1
            for append in taken:
                append.resolve(error)
        except BaseException:
            # Nothing was written, and the leader alone is cancelled: the other appends go back to their places.
            self._waiting.extendleft(reversed(taken[1:]))
            raise
        else:
            if records:
                self.commits += 1
                self.next += len(records)
            for append, outcome in zip(taken, placed, strict=True):
                self.appends += isinstance(outcome, int)
                append.resolve(outcome)
        finally:
            self._hand_on()

    def _take(self) -> list[_Append]:
        taken: list[_Append] = []
        records = size = 0
        # ``not taken``: an append that is larger than the limits is committed alone, or it would wait for ever.
        while self._waiting and (not taken or (records < MAX_COMMIT_RECORDS and size < MAX_COMMIT_BYTES)):
            append = self._waiting.popleft()
            if not append.withdrawn:
                taken.append(append)
                records, size = records + len(append.records), size + append.size
        return taken

    def _place(self, taken: Sequence[_Append]) -> tuple[list[int | StaleWriter], list[bytes]]:
        """Return the index or the refusal that each append gets if the commit succeeds, and the records to commit."""
        placed: list[int | StaleWriter] = []
        records: list[bytes] = []
        # Judged here and not in `append`: the appends before in the same commit move the index. The refused append is
        # told after the commit, because the index in the refusal is wrong if the commit fails.
        for append in taken:
            index = self.next + len(records)
            if append.expected_index in (None, index):
                placed.append(index)
                records += append.records
            else:
                placed.append(StaleWriter(append.expected_index, index))
        return placed, records

    def _hand_on(self) -> None:
        # A cancelled append stays in the queue, since removing it from the middle would cost a search.
        while self._waiting and self._waiting[0].withdrawn:
            self._waiting.popleft()
        self._led = bool(self._waiting)
        if self._led:
            self._waiting[0].turn.set()
