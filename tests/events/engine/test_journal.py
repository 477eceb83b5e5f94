"""The event journal on a log: what is durable when, what a start finds, what is said of a storage that fails."""

from __future__ import annotations

import msgspec
import pytest
import structlog
import trio

from hermes.base.errors import LogDamaged, LogFull, LogUnavailable, StaleWriter
from hermes.events.ack import Outcome, Receipt
from hermes.events.engine.journal import EventJournal, JournalState, open_journal
from hermes.events.engine.progress import ProgressState
from hermes.events.event import Chunk
from hermes.store.log import Record
from hermes.testing import make_chunk
from tests.events.engine.durable import MIB, ScriptedLog


async def opened(log: ScriptedLog | None = None, max_bytes: int = MIB) -> EventJournal:
    return await open_journal(log or ScriptedLog(), max_bytes)


async def filled(*counts: int) -> tuple[ScriptedLog, EventJournal]:
    """A journal with a record of each number of events, and a sink `a` that has had none."""
    log = ScriptedLog()
    journal = await opened(log)
    journal.register("a")
    await journal.append([make_chunk(count) for count in counts])
    return log, journal


# Appending and reading


async def test_chunks_get_their_places_in_order_and_events_their_numbers(autojump_clock: None) -> None:
    log, journal = await filled(3, 2)
    chunks = [make_chunk(4), make_chunk(1)]
    await journal.append(chunks)
    assert [chunk.index for chunk in chunks] == [2, 3]
    assert (journal.next, journal.events, log.calls["append"]) == (4, 10, 2)
    heads = [journal.decode(record)[1] for record in await journal.read(0, 4, MIB)]
    assert [(head.first, head.count) for head in heads] == [(0, 3), (3, 2), (5, 4), (9, 1)]
    assert [await journal.events_before(index) for index in range(5)] == [0, 3, 5, 9, 10]


async def test_a_read_ends_before_its_stop_and_leaves_out_what_was_lost(autojump_clock: None) -> None:
    log, journal = await filled(1, 1, 1, 1, 1)
    assert [record.index for record in await journal.read(1, 3, MIB)] == [1, 2]
    assert [record.index for record in await journal.read(1, 5, 1)] == [1]
    log.lost = {1, 2}
    assert [record.index for record in await journal.read(1, 3, MIB)] == []
    assert [record.index for record in await journal.read(0, 5, MIB)] == [0, 3, 4]
    assert await journal.events_before(1) == 3  # of what was lost it is only known that it was before the next
    log.lost = {3, 4}
    assert await journal.events_before(3) == 5


async def test_the_number_of_events_is_not_mixed_up_by_an_append_during_the_read(autojump_clock: None) -> None:
    log, journal = await filled(2, 3)
    log.lost = {1}
    log.stall("read")
    found: list[int] = []

    async def ask(index: int) -> None:
        found.append(await journal.events_before(index))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, 1)
        nursery.start_soon(ask, 2)
        await trio.testing.wait_all_tasks_blocked()
        log.lost = {1, 2}  # the reads find nothing
        await journal.append([make_chunk(100)])
        log.resume("read")
    assert sorted(found) == [5, 5]


async def test_a_receipt_is_durable_with_its_record_and_follows_it_back_into_memory(autojump_clock: None) -> None:
    _, journal = await filled(1)
    chunk = make_chunk(2)
    chunk.receipt = Receipt(2, ("a",), lambda *_: None)
    await journal.append([make_chunk(1), chunk])
    assert chunk.receipt.durable
    again = [journal.decode(record)[0] for record in await journal.read(0, 3, MIB)]
    assert [found.receipt for found in again] == [None, None, chunk.receipt]
    await journal.save()
    assert journal.receipts == {2: chunk.receipt}
    chunk.receipt.close(Outcome.LATE)
    await journal.save()
    assert journal.receipts == {}


async def test_an_append_that_fails_leaves_nothing_behind(autojump_clock: None) -> None:
    log, journal = await filled(2)
    chunk = make_chunk(3)
    chunk.receipt = Receipt(3, ("a",), lambda *_: None)
    log.fail("append", error=LogFull("no room on the disk"))
    with pytest.raises(LogFull):
        await journal.append([chunk])
    assert (chunk.index, chunk.receipt.durable, journal.receipts) == (-1, False, {})
    assert (journal.next, journal.events, journal.metrics.failed_commits) == (1, 2, 1)
    assert journal.failing == "no room on the disk"
    log.mend()
    await journal.append([chunk])
    assert (chunk.index, journal.next, journal.events, journal.failing) == (1, 2, 5, None)


async def test_another_writer_is_an_error_that_says_so(autojump_clock: None) -> None:
    log, journal = await filled(2)
    await log.append([b"of somebody else"])
    with pytest.raises(StaleWriter, match="an append at index 1 was refused: the log is at 2"):
        await journal.append([make_chunk(1)])


async def test_room_and_crowd_follow_what_is_kept(autojump_clock: None) -> None:
    log, journal = await filled(5)
    size = journal.bytes
    journal = await opened(log, 10 * size)
    progress, owed = journal.register("a")
    assert (journal.room, owed, journal.crowded) == (9 * size, 5, False)
    await journal.append([make_chunk(5) for _ in range(8)])
    assert (journal.room, journal.crowded) == (size, False)
    await journal.append([make_chunk(5) for _ in range(2)])
    assert (journal.room, journal.crowded) == (-size, True)
    progress.settle(0, 6, 30)
    await journal.save()
    assert (journal.room, journal.crowded, journal.first) == (5 * size, False, 6)


# Saving, and starting again


async def test_a_start_owes_a_sink_what_it_had_not_settled_when_it_was_saved(autojump_clock: None) -> None:
    log, journal = await filled(1, 2, 3, 4, 5)
    await journal.save()
    journal = await opened(log)
    settled, owed = journal.register("a")
    assert owed == 15
    _, owed = journal.register("b")
    assert owed == 0  # it is new, and begins with what comes next
    await journal.append([make_chunk(6)])
    settled.settle(0, 2, 3)
    settled.settle(3, 4, 4)
    await journal.save()
    settled.settle(2, 3, 3)  # too late to be saved

    journal = await opened(log)
    assert (journal.first, journal.next, journal.events) == (2, 6, 21)
    again, owed = journal.register("a")
    assert (owed, again.gaps(6)) == (14, [(2, 3), (4, 6)])
    again, owed = journal.register("b")
    assert (owed, again.gaps(6)) == (6, [(5, 6)])
    again, owed = journal.register("c")
    assert (owed, again.gaps(6)) == (0, [])


async def test_what_was_appended_after_the_last_save_is_owed_too(autojump_clock: None) -> None:
    log, journal = await filled(1, 1)
    await journal.save()
    await journal.append([make_chunk(7), make_chunk(8)])
    journal = await opened(log)
    _, owed = journal.register("a")
    assert (journal.events, owed) == (17, 17)


async def test_records_without_any_saved_state_are_owed_to_every_sink(autojump_clock: None) -> None:
    log, _ = await filled(3, 4)
    journal = await opened(log)
    for sink in ("a", "new"):
        progress, owed = journal.register(sink)
        assert (owed, progress.gaps(2)) == (7, [(0, 2)])


async def test_records_whose_saved_state_a_repair_has_taken_away_are_owed_from_the_oldest(autojump_clock: None) -> None:
    log, journal = await filled(3, 4, 5)
    journal._sinks["a"].settle(0, 1, 3)
    await journal.save()
    log.snapshot = None
    journal = await opened(log)
    progress, owed = journal.register("a")
    assert (log.first, owed, progress.settled, progress.gaps(3)) == (1, 9, 3, [(1, 3)])


@pytest.mark.parametrize("lost", [{4}, {3, 4}, {1, 2, 3, 4}, {0, 1, 2, 3, 4}])
@pytest.mark.parametrize("saved", [True, False])
async def test_numbers_go_on_behind_a_lost_end(autojump_clock: None, lost: set[int], saved: bool) -> None:
    log, journal = await filled(1, 2, 3, 4, 5)
    if saved:
        await journal.save()
    log.lost = lost
    journal = await opened(log)
    _, owed = journal.register("a")
    known = 15 if saved else sum(index + 1 for index in {0, 1, 2, 3, 4} - lost)
    assert (journal.events, owed) == (known, known)
    chunk = make_chunk(1)
    await journal.append([chunk])
    assert chunk.index == 5
    assert await journal.events_before(5) == known


async def test_a_log_that_ends_before_the_saved_progress_owes_what_comes_in_that_place(autojump_clock: None) -> None:
    log = ScriptedLog()
    await log.append([b"x"])
    await log.trim(1)
    state = JournalState(30, {"a": ProgressState(3, 30), "b": ProgressState(0, 15, ((2, 4, 5),))})
    await log.take_snapshot(0, msgspec.json.encode(state))
    journal = await opened(log)
    a, owed_a = journal.register("a")
    b, owed_b = journal.register("b")
    assert (owed_a, owed_b) == (0, 20)
    await journal.append([make_chunk(1)])
    assert a.gaps(2) == [(1, 2)]
    assert b.gaps(2) == [(0, 2)]


async def test_a_sink_that_is_gone_gives_up_its_backlog_and_holds_nothing_back(autojump_clock: None) -> None:
    log, journal = await filled(5, 5)
    await journal.save()

    journal = await opened(log)
    journal.register("b")
    with structlog.testing.capture_logs() as lines:
        journal.forget_unknown_sinks()
    assert lines == [
        {
            "event": "a sink that is no longer configured gives up its backlog",
            "sink": "a",
            "events": 10,
            "log_level": "warning",
        }
    ]
    await journal.save()
    assert (log.first, log.next) == (2, 2)
    journal = await opened(log)
    assert journal.register("a")[1] == 0


async def test_a_save_that_fails_trims_nothing_and_is_made_again(autojump_clock: None) -> None:
    log, journal = await filled(1, 1)
    journal._sinks["a"].settle(0, 2, 2)
    log.fail("snapshot")
    await journal.save()
    assert (log.first, log.snapshot) == (0, None)
    log.mend()
    log.fail("trim")
    await journal.save()
    assert (log.first, journal.failing) == (0, "the test says so")
    log.mend()
    await journal.save()
    assert (log.first, journal.failing) == (2, None)


async def test_what_is_settled_while_a_save_is_under_way_is_not_trimmed_by_it(autojump_clock: None) -> None:
    log, journal = await filled(1, 1, 1)
    progress = journal._sinks["a"]
    progress.settle(0, 1, 1)
    log.stall("snapshot")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(journal.save)
        await trio.testing.wait_all_tasks_blocked()
        progress.settle(1, 3, 2)
        log.resume("snapshot")
    assert log.first == 1
    await journal.save()
    assert log.first == 3


# A storage that fails


async def test_a_disk_that_takes_snapshots_but_no_records_is_not_called_well(autojump_clock: None) -> None:
    log, journal = await filled(1)
    log.fail("append", error=LogFull("full"))
    with structlog.testing.capture_logs() as lines:
        for _ in range(100):
            with pytest.raises(LogUnavailable):
                await journal.append([make_chunk(1)])
            await trio.sleep(0.5)
            await journal.save()
            assert journal.failing == "full"
        assert [line["event"] for line in lines] == ["the journal's storage fails"] * 2  # said again after 30 s
        await trio.sleep(5)  # nobody sends anything any more to a service that is not ready
        await journal.save()
    assert journal.failing is None
    assert lines[-1]["event"] == "the journal's storage works again"


async def test_a_commit_is_measured(autojump_clock: None) -> None:
    log, journal = await filled(1)
    log.delay["append"] = 0.2
    await journal.append([make_chunk(1)])
    buckets, total = journal.metrics.commit_seconds.buckets()
    assert buckets[-1] == ("+Inf", 2.0)
    assert total == pytest.approx(0.2)


@pytest.mark.parametrize(
    "state", [b"", b"{}", b'{"events":1}', b'{"events":"x","sinks":{}}', b"\xff\xfe", b'{"\xe5":1}']
)
async def test_a_snapshot_that_is_none_of_ours_is_said_to_be_damaged(autojump_clock: None, state: bytes) -> None:
    log = ScriptedLog()
    await log.take_snapshot(0, state)
    with pytest.raises(LogDamaged, match=r"the event journal's snapshot cannot be read: .*; see `hermes log check`"):
        await opened(log)


async def test_a_last_record_that_is_none_of_ours_is_said_to_be_damaged(autojump_clock: None) -> None:
    log = ScriptedLog()
    await log.append([b"not a record"])
    with pytest.raises(LogDamaged, match="record 0 of the event journal is no record"):
        await opened(log)


async def test_statistics_are_plain_values(autojump_clock: None) -> None:
    _, journal = await filled(2, 3)
    found = journal.statistics()
    assert found == {
        "first": 0,
        "next": 2,
        "bytes": journal.bytes,
        "events": 5,
        "commits": 1,
        "failed_commits": 0,
        "cursors": {"a": 0},
        "failing": None,
    }
    assert msgspec.json.encode(found)


async def test_a_cancelled_append_that_was_committed_all_the_same_is_owed_by_the_next_start(
    autojump_clock: None,
) -> None:
    class Late(ScriptedLog):
        async def append(self, records: list[bytes], *, expected_index: int | None = None) -> int:  # type: ignore[override]
            index = await super().append(records, expected_index=expected_index)
            await trio.sleep(1)
            return index

    log = Late()
    journal = await opened(log)
    journal.register("a")
    chunk: Chunk = make_chunk(3)
    with trio.move_on_after(0.5):
        await journal.append([chunk])
    assert (chunk.index, journal.events, journal.next) == (-1, 0, 0)
    await journal.save()
    journal = await opened(log)
    assert journal.register("a")[1] == 3
    assert isinstance((await journal.read(0, 1, MIB))[0], Record)
