"""The simulation is able to fail: each of these deliberate bugs is found within a few seeds.

A bug is a patch of Hermes or of what it stands on. One that is no longer found means that the simulation has become
blind, or that the patch has lost its target.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pytest
import trio
from hermes_sinks.common.disk import write_all
from hermes_sinks.file import appending
from hermes_sinks.file.appending import LineFile

from hermes.base.errors import HermesError, LogUnavailable, SinkUnavailable
from hermes.dead_letters.sqlite import SqliteDeadLetters
from hermes.events.ack import Outcome, Receipt
from hermes.events.engine.admission import Admission
from hermes.events.engine.journal import EventJournal
from hermes.events.engine.journal_record import encode_chunk
from hermes.events.engine.ledger import Ledger
from hermes.events.engine.progress import Progress, ProgressState
from hermes.events.engine.sink_calls import SinkCalls
from hermes.events.event import Batch, Chunk
from hermes.net.http.connection import Connection
from hermes.net.http.head import Head
from hermes.net.http.pending import Pending
from hermes.store import sqlite
from hermes.store.log.sqlite.log import SqliteLog
from tests.simulation import inode
from tests.simulation.faults import Crash
from tests.simulation.plan import Plan, make_plan
from tests.simulation.run import simulate
from tests.simulation.sinks import SimulatedSink

MOST_SEEDS = 100

Bug = Callable[[], AbstractContextManager[Any]]


def acknowledged_before_the_commit() -> AbstractContextManager[Any]:
    write = SqliteLog._write

    async def late(log: SqliteLog, index: int, records: list[bytes]) -> None:
        await trio.sleep(0.5)
        with suppress(HermesError, sqlite3.Error):
            await write(log, index, records)

    async def hasty(self: SqliteLog, index: int, records: list[bytes]) -> None:
        trio.lowlevel.spawn_system_task(late, self, index, records)

    return mock.patch.object(SqliteLog, "_write", hasty)


def databases_that_are_not_synced() -> AbstractContextManager[Any]:
    prepare = sqlite._prepare

    def careless(connection: sqlite3.Connection, path: Path, schema: sqlite.Schema) -> None:
        prepare(connection, path, schema)
        connection.execute("PRAGMA synchronous = OFF")

    return mock.patch.object(sqlite, "_prepare", careless)


def a_file_sink_that_does_not_sync() -> AbstractContextManager[Any]:
    def write(self: LineFile, blocks: Sequence[bytes]) -> None:
        for block in blocks:
            write_all(self._fd, block)

    return mock.patch.object(LineFile, "_write", write)


@contextmanager
def a_file_sink_that_keeps_torn_lines() -> Iterator[None]:
    whole = mock.patch.object(appending, "_end_of_whole_lines", lambda fd: os.fstat(fd).st_size)
    # Small sectors, as persistent memory has them: most of these lines are shorter than a sector of a disk.
    with whole, mock.patch.object(inode, "SECTOR", 64):
        yield


def folders_whose_names_are_not_synced() -> AbstractContextManager[Any]:
    return mock.patch("hermes.base.folders.sync_folder")


def refused_but_kept() -> AbstractContextManager[Any]:
    append = EventJournal.append

    async def forgetful(self: EventJournal, chunks: Sequence[Chunk]) -> None:
        await append(self, chunks)
        if chunks[0].index % 5 == 4:
            raise LogUnavailable("or so it thinks")

    return mock.patch.object(EventJournal, "append", forgetful)


def a_cursor_saved_too_far() -> AbstractContextManager[Any]:
    state = Progress.state

    def too_far(self: Progress) -> ProgressState:
        right = state(self)
        return msgspec.structs.replace(right, cursor=right.cursor + 1)

    return mock.patch.object(Progress, "state", too_far)


def a_trim_too_far() -> AbstractContextManager[Any]:
    trim = SqliteLog.trim
    return mock.patch.object(SqliteLog, "trim", lambda self, to_index: trim(self, to_index + 5))


def a_start_that_replays_nothing() -> AbstractContextManager[Any]:
    return mock.patch.object(Progress, "gaps", return_value=[])


def a_sink_without_a_key() -> AbstractContextManager[Any]:
    return mock.patch.object(SimulatedSink, "has_key", new=False)


def a_failed_write_taken_for_a_success() -> AbstractContextManager[Any]:
    write = SinkCalls.write

    async def hopeful(self: SinkCalls, batch: Batch, attempt: int) -> Any:
        try:
            return await write(self, batch, attempt)
        except SinkUnavailable:
            self._ledger.deliver(len(batch))
            return {}

    return mock.patch.object(SinkCalls, "write", hopeful)


def dead_letters_that_are_thrown_away() -> AbstractContextManager[Any]:
    return mock.patch.object(SqliteDeadLetters, "add", mock.AsyncMock())


def dead_letters_replayed_into_nothing() -> AbstractContextManager[Any]:
    return mock.patch.object(SinkCalls, "redeliver", mock.AsyncMock())


def a_journal_that_tidies_payloads() -> AbstractContextManager[Any]:
    def tidy(chunk: Chunk, first: int) -> bytes:
        for event in chunk.events:
            event.payload = msgspec.Raw(msgspec.json.encode(msgspec.json.decode(event.payload)))
        return encode_chunk(chunk, first)

    return mock.patch("hermes.events.engine.journal.encode_chunk", tidy)


def delivered_said_when_the_first_sink_has_it() -> AbstractContextManager[Any]:
    def note(self: Receipt, sink: str, delivered: int, dead_lettered: int = 0, dropped: int = 0) -> None:
        self.close(Outcome.TAKEN)

    return mock.patch.object(Receipt, "note", note)


def an_account_that_counts_twice() -> AbstractContextManager[Any]:
    deliver = Ledger.deliver
    return mock.patch.object(Ledger, "deliver", lambda self, count: deliver(self, count + (count == 3)))


def room_that_is_not_given_back() -> AbstractContextManager[Any]:
    leave = Admission.leave
    return mock.patch.object(Admission, "leave", lambda self, count, size, now: leave(self, count, size - 1, now))


def answers_out_of_order() -> AbstractContextManager[Any]:
    wait = Connection._wait

    def newest_first(self: Connection, head: Head, pending: Pending) -> None:
        wait(self, head, pending)
        self.waiting.rotate(1)

    return mock.patch.object(Connection, "_wait", newest_first)


BUGS: Mapping[Bug, str] = {
    acknowledged_before_the_commit: "lost, though promised",
    databases_that_are_not_synced: "lost, though promised",
    a_file_sink_that_does_not_sync: "file: lost, though promised",
    a_file_sink_that_keeps_torn_lines: "a torn line",
    folders_whose_names_are_not_synced: "lost, though promised",
    refused_but_kept: "every answer was that nothing was taken",
    a_cursor_saved_too_far: "lost, though promised",
    a_trim_too_far: "lost, though promised",
    a_start_that_replays_nothing: "lost, though promised",
    a_sink_without_a_key: "stored more than once",
    a_failed_write_taken_for_a_success: "lost, though promised",
    dead_letters_that_are_thrown_away: "lost, though promised",
    dead_letters_replayed_into_nothing: "lost, though promised",
    a_journal_that_tidies_payloads: "changed",
    delivered_said_when_the_first_sink_has_it: "said to be delivered",
    an_account_that_counts_twice: "but the sink has confirmed",
    room_that_is_not_given_back: "hold room",
    answers_out_of_order: "answered with the id",
}
"""Each bug, and words of what is found."""


TOUCHED: Mapping[Bug, str] = {
    a_file_sink_that_does_not_sync: "data/files",
    a_file_sink_that_keeps_torn_lines: "data/files/events/events.jsonl",
}
"""The file in whose writing a loss of power shows the bug; seeds without one are passed over, for their time."""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_it_finds(bug: Bug) -> None:
    with bug():
        seeds = [seed for seed in range(10 * MOST_SEEDS) if _may_show(make_plan(seed), TOUCHED.get(bug))][:MOST_SEEDS]
        assert any(BUGS[bug] in problem for seed in seeds for problem in simulate(seed).problems)


def _may_show(plan: Plan, file: str | None) -> bool:
    """Whether the power fails while the file is written."""
    return file is None or any(
        isinstance(fault, Crash) and fault.power and (fault.while_writing or "").startswith(file)
        for fault in plan.timetable
    )
