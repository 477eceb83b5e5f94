"""The account is able to fail: each of these deliberate bugs in the engine is found by the account of one short run.

A bug is a patch of the engine. One that is no longer found means that a part of the account has become what the others
leave over, or that the patch has lost its target. The run: requests to two sinks, of which one refuses an event and the
other hangs before the stop; some clients wait for delivery; in memory or on a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
import structlog
import trio

from hermes.base.errors import BatchRejected
from hermes.events.ack import Ack, Receipt
from hermes.events.engine.backlog import Backlog
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.intake import Intake
from hermes.events.engine.job import Job
from hermes.events.engine.ledger import Ledger
from hermes.events.engine.owed import OwedRecords
from hermes.events.engine.progress import Progress
from hermes.events.engine.sink_calls import SinkCalls
from hermes.events.event import Batch, Chunk
from hermes.store.log.memory import MemoryLog
from hermes.testing import ScriptedSink, make_events
from tests.events.engine.durable import make_durable_engine
from tests.events.engine.kit import make_engine, settings

Bug = Callable[[], AbstractContextManager[Any]]


def every_third(method: Any, instead: Callable[..., Any]) -> Callable[..., Any]:
    """A method that does something else at every third call."""
    calls = 0

    def wrong(*arguments: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        return (instead if calls % 3 == 0 else method)(*arguments, **named)

    return wrong


# The bugs


def a_lost_batch() -> AbstractContextManager[Any]:
    async def nothing(self: SinkCalls, _batch: Batch, _attempt: int) -> Mapping[int, str]:
        self._breaker.abandoned(trio.current_time())
        return {}

    return mock.patch.object(SinkCalls, "write", every_third(SinkCalls.write, nothing))


def a_batch_counted_twice() -> AbstractContextManager[Any]:
    def twice(self: Ledger, count: int) -> None:
        self.delivered += 2 * count

    return mock.patch.object(Ledger, "deliver", every_third(Ledger.deliver, twice))


def a_record_settled_twice() -> AbstractContextManager[Any]:
    settle = Progress.settle

    def twice(self: Progress, start: int, stop: int, events: int) -> None:
        settle(self, start, stop, 2 * events)

    return mock.patch.object(Progress, "settle", every_third(settle, twice))


def a_record_settled_too_early() -> AbstractContextManager[Any]:
    release = Backlog.release

    def early(self: Backlog, chunks: Sequence[Chunk], unspent: Sequence[int], *, settled: bool) -> int:
        return release(self, chunks, unspent, settled=True)

    return mock.patch.object(Backlog, "release", early)


def a_record_never_settled() -> AbstractContextManager[Any]:
    return mock.patch.object(Progress, "settle", every_third(Progress.settle, lambda *_: None))


def a_skipped_trim() -> AbstractContextManager[Any]:
    return mock.patch.object(MemoryLog, "trim", mock.AsyncMock())


def a_chunk_lost_at_a_cancelled_write() -> AbstractContextManager[Any]:
    release = Backlog.release

    def forget(self: Delivery, job: Job) -> None:
        if not job.left:
            release_job(self, job)
        elif self._backlog is not None:
            release(self._backlog, job.batch.chunks, job.unspent(), settled=False)

    release_job = Delivery._release
    return mock.patch.object(Delivery, "_release", forget)


def a_chunk_lost_on_the_way_to_the_sinks() -> AbstractContextManager[Any]:
    offer = Delivery.offer
    return mock.patch.object(Delivery, "offer", every_third(offer, lambda self, chunks: offer(self, chunks[1:])))


def a_chunk_offered_twice() -> AbstractContextManager[Any]:
    def twice(self: Delivery, pieces: Sequence[Chunk]) -> bool:
        return take(self, pieces) and (take(self, pieces) or True)

    take = Delivery._take
    return mock.patch.object(Delivery, "_take", every_third(take, twice))


def a_dropped_receipt() -> AbstractContextManager[Any]:
    return mock.patch.object(Receipt, "note")


def a_receipt_that_nobody_notes() -> AbstractContextManager[Any]:
    return mock.patch.object(Delivery, "_note", mock.AsyncMock())


def a_receipt_that_its_events_have_lost() -> AbstractContextManager[Any]:
    def lose(self: Intake, chunk: Chunk) -> None:
        chunk.receipt = None
        send(self, chunk)

    send = Intake._send_chunk
    return mock.patch.object(Intake, "_send_chunk", lose)


def a_miscounted_spill() -> AbstractContextManager[Any]:
    def less(self: Ledger, count: int) -> None:
        self.spilled += max(0, count - 1)

    return mock.patch.object(Ledger, "spill", less)


def a_miscounted_backlog() -> AbstractContextManager[Any]:
    def less(self: OwedRecords, chunk: Chunk) -> None:
        defer(self, chunk)
        self.events -= 1

    defer = OwedRecords.defer
    return mock.patch.object(OwedRecords, "defer", less)


def a_dead_letter_that_is_not_counted() -> AbstractContextManager[Any]:
    return mock.patch.object(Ledger, "dead_letter")


JOURNAL, MEMORY = True, False
BUGS: dict[Bug, tuple[bool, ...]] = {
    a_lost_batch: (JOURNAL, MEMORY),
    a_batch_counted_twice: (JOURNAL, MEMORY),
    a_record_settled_twice: (JOURNAL,),
    a_record_settled_too_early: (JOURNAL,),
    a_record_never_settled: (JOURNAL,),
    a_skipped_trim: (JOURNAL,),
    a_chunk_lost_at_a_cancelled_write: (JOURNAL, MEMORY),
    a_chunk_lost_on_the_way_to_the_sinks: (JOURNAL, MEMORY),
    a_chunk_offered_twice: (JOURNAL, MEMORY),
    a_dropped_receipt: (JOURNAL, MEMORY),
    a_receipt_that_nobody_notes: (JOURNAL, MEMORY),
    a_receipt_that_its_events_have_lost: (JOURNAL, MEMORY),
    a_miscounted_spill: (JOURNAL,),
    a_miscounted_backlog: (JOURNAL,),
    a_dead_letter_that_is_not_counted: (JOURNAL, MEMORY),
}
"""Each bug, and with which storage it can happen."""


async def sound_after_a_run(journal: bool) -> bool:
    """Run the engine as the header says and return whether its books are sound. The second sink ends with a backlog."""
    sinks = {"one": ScriptedSink(max_batch=4), "two": ScriptedSink(max_batch=4)}
    sinks["one"].script.extend([None, BatchRejected({0: "bad"})])
    service = settings(batch_size=4, queue_size=40, worker_count=2)
    each = {"one": {"required": True}, "two": {"required": False}}
    if journal:
        engine = (await make_durable_engine(sinks=sinks, service=service, each=each)).engine
    else:
        engine = make_engine(sinks, service=service, delivery=each).engine
    number = 0

    async def ask(count: int, ack: Ack) -> None:
        nonlocal number
        for _ in range(count):
            engine.intake.submit(make_events(3, prefix=f"request-{number}"), 300, ack, lambda *_: None)
            number += 1
            await trio.sleep(0.2)

    async def ask_all() -> None:
        await ask(6, Ack.ACCEPTED)
        await ask(4, Ack.DELIVERED)
        sinks["two"].stall()
        await ask(30, Ack.ACCEPTED)
        await trio.sleep(5)

    with trio.move_on_after(60):
        await engine.run(ask_all)
    return engine.audit()


@pytest.mark.parametrize("journal", [JOURNAL, MEMORY], ids=["journal", "memory"])
async def test_without_a_bug_the_books_are_sound(autojump_clock: None, journal: bool) -> None:
    assert await sound_after_a_run(journal)


@pytest.mark.parametrize(
    ("bug", "journal"),
    [(bug, journal) for bug, storages in BUGS.items() for journal in storages],
    ids=lambda value: value.__name__ if callable(value) else "journal" if value else "memory",
)
async def test_the_account_finds(autojump_clock: None, bug: Bug, journal: bool) -> None:
    with bug(), structlog.testing.capture_logs() as lines:
        assert not await sound_after_a_run(journal)
    assert any(line["log_level"] == "critical" and "a bug of Hermes" in line["event"] for line in lines)
