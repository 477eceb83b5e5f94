"""Group commit: appends that come while a commit is under way wait for it, and then share the next one.

There is no task of its own. The first append leads: it takes all that waits, commits, and settles the others; then the
oldest that came meanwhile leads. Invariants: records are committed in the order of their `append` calls, one commit at
a time; an append is settled by exactly one commit, or was cancelled before one took it; a failed commit settles all of
its appends as failed, and the next one begins at the same index. Bounded by its callers: each waits with one append.

Used by the engines whose commit costs the same for one append as for many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import trio

from hermes.errors import HermesError, StaleWriter

MAX_COMMIT_RECORDS = 100_000
MAX_COMMIT_BYTES = 8 * 2**20
"""A commit takes no further append when it has this much, so that it does not keep what waits for long."""

Write = Callable[[int, list[bytes]], Awaitable[None]]


class _Append:
    """One call of `GroupCommit.append`. When ``turn`` is set it has its ``outcome``, or else it leads."""

    __slots__ = ("expected_index", "outcome", "records", "settled", "size", "turn", "withdrawn")

    def __init__(self, records: Sequence[bytes], expected_index: int | None) -> None:
        self.records = records
        self.size = sum(map(len, records))
        self.expected_index = expected_index
        self.turn = trio.Event()
        self.withdrawn = False
        self.settled = False
        self.outcome: int | HermesError

    def settle(self, outcome: int | HermesError) -> None:
        self.outcome = outcome
        self.settled = True
        self.turn.set()


class GroupCommit:
    """Appends that share commits. ``write(index, records)`` commits records from ``index`` on, never twice at once.

    It returns when they are durable, raises a `HermesError` when none of them is and none will be, and lets
    `trio.Cancelled` through only where it has not begun.
    """

    def __init__(self, next_index: int, write: Write) -> None:
        self.next = next_index
        self.appends = self.commits = self.failed_commits = 0
        self._write = write
        self._waiting: deque[_Append] = deque()  # the one that leads is the first, until it has taken what it commits
        self._led = False

    async def append(self, records: Sequence[bytes], expected_index: int | None) -> int:
        """Return the index of the first record once all are durable. Raises as ``write`` does, and `StaleWriter`."""
        append = _Append(records, expected_index)
        self._waiting.append(append)
        if self._led:
            await self._wait_turn(append)
        else:
            self._led = True
        if not append.settled:
            await self._lead()
        outcome = append.outcome
        if isinstance(outcome, int):
            return outcome
        del append.outcome
        try:
            raise outcome.with_traceback(None)  # others raise the same one
        finally:
            # The error holds this frame by its traceback. If the frame held the error too, the records of a refused
            # append would stay in memory until the garbage collector runs, which it rarely does.
            del outcome

    async def _wait_turn(self, append: _Append) -> None:
        try:
            await append.turn.wait()
        except trio.Cancelled:
            append.withdrawn = True
            if append.turn.is_set() and not append.settled:  # became the leader after it was cancelled
                self._hand_on()
            raise

    async def _lead(self) -> None:
        try:
            await trio.lowlevel.checkpoint()  # who is ready to append joins: measured, a third fewer commits
        except trio.Cancelled:
            self._waiting.popleft()
            self._hand_on()
            raise
        taken = self._take()
        try:
            placed, records = self._place(taken)
            if records:
                await self._write(self.next, records)
        except HermesError as error:
            self.failed_commits += 1
            for append in taken:
                append.settle(error)
        except BaseException:
            self._waiting.extendleft(reversed(taken[1:]))  # nothing was written; the leader alone is cancelled
            raise
        else:
            if records:
                self.commits += 1
                self.next += len(records)
            for append, outcome in zip(taken, placed, strict=True):
                self.appends += isinstance(outcome, int)
                append.settle(outcome)
        finally:
            self._hand_on()

    def _take(self) -> list[_Append]:
        taken: list[_Append] = []
        records = size = 0
        while self._waiting and (not taken or (records < MAX_COMMIT_RECORDS and size < MAX_COMMIT_BYTES)):
            append = self._waiting.popleft()
            if not append.withdrawn:
                taken.append(append)
                records, size = records + len(append.records), size + append.size
        return taken

    def _place(self, taken: Sequence[_Append]) -> tuple[list[int | StaleWriter], list[bytes]]:
        """Give each append its index, or its refusal, as they will stand if the commit succeeds."""
        placed: list[int | StaleWriter] = []
        records: list[bytes] = []
        for append in taken:
            index = self.next + len(records)
            if append.expected_index in (None, index):
                placed.append(index)
                records += append.records
            else:
                placed.append(StaleWriter(append.expected_index, index))
        return placed, records

    def _hand_on(self) -> None:
        while self._waiting and self._waiting[0].withdrawn:
            self._waiting.popleft()
        self._led = bool(self._waiting)
        if self._led:
            self._waiting[0].turn.set()
