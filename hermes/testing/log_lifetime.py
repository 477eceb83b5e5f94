"""The checks of `check_log` for trimming, snapshots, closing, and opening again.

Each check is a function of a probe and raises `LogCheckFailed`.
"""

from __future__ import annotations

import trio

from hermes.store.log import Record, Snapshot
from hermes.testing.log_probe import LogProbe, agree, fail, trim


async def what_is_trimmed_is_gone(probe: LogProbe) -> None:
    """Check that a trim moves ``first``, even into the middle of an append, for good, and never moves ``next``."""
    check = "trim"
    records = [b"%04d" % n for n in range(50)]
    async with probe.opened(check) as log:
        start = log.next
        # Appends of ten records, so that most trims end within one.
        for place in range(0, 50, 10):
            await probe.append(check, log, records[place : place + 10])
        await trim(probe, check, log, start, start)
        # 50 records of 4 bytes; the log's own overhead does not count.
        if log.statistics().bytes != 200:
            what = f"statistics() counts {log.statistics().bytes} bytes of 200"
            fail(check, what, "count what is kept, and no more")
        # To the border of an append, into one, to the same place again, backwards, and to the last record.
        for to in (10, 13, 13, 5, 49):
            await trim(probe, check, log, start + to, max(log.first, start + to))
            await probe.expect(check, log, log.first, records[log.first - start :])
            for index in (0, start, log.first):
                found = await probe.call(check, "read", log.read(index, max_records=1))
                if found != [Record(log.first, records[log.first - start])]:
                    what = f"read({index}) gave {found} after a trim to {log.first}"
                    fail(check, what, "give the oldest record that is kept, even out of a batch that is kept whole")
            if log.statistics().bytes != 4 * (log.next - log.first):
                what = f"statistics() counts {log.statistics().bytes} bytes of {4 * (log.next - log.first)}"
                fail(check, what, "take away those of the records that were trimmed")
        end = log.next
        # Far beyond the end: the engine may trim to an index that a lost record had.
        await trim(probe, check, log, 10**12, end)
        if await probe.read_all(check, log, 0) or log.statistics().bytes:
            fail(check, "something is left when all is trimmed", "a trim beyond `next` trims everything")
        if await probe.append(check, log, [b"after"]) != end:
            fail(check, "the next append did not get the next index", "indexes never come again")
    if probe.keeps:
        async with probe.opened(check) as log:
            if log.first != end:
                fail(check, f"first is {log.first} instead of {end} when it is opened again", "keep what was trimmed")
            await probe.expect(check, log, end, [b"after"])
            # Now the log is empty: its position must survive without a record that carries it.
            await trim(probe, check, log, log.next, end + 1)
        async with probe.opened(check) as log:
            if (log.first, log.next) != (end + 1, end + 1):
                what = f"an empty log that is opened again stands at {log.first}, {log.next}, not at {end + 1}"
                fail(check, what, "keep the index even if there is no record")


async def the_last_snapshot_counts(probe: LogProbe) -> None:
    """Check that a snapshot replaces the one before, and is there when the log is opened again."""
    check = "snapshots"
    async with probe.opened(check) as log:
        # A state of 1 MiB with every byte, and an empty one, which is not the same as no snapshot.
        for state in (b"first", bytes(range(256)) * 4096, b"", b"last"):
            await probe.call(check, "take_snapshot", log.take_snapshot(log.next, state))
            if log.snapshot != Snapshot(log.next, state):
                what = f"after take_snapshot() snapshot is {_short(log.snapshot)}"
                fail(check, what, "let it be the last one taken")
        expected = log.snapshot
        await probe.append(check, log, [b"x"])
        # The trim removes every record; the snapshot must not go with them.
        await probe.call(check, "trim", log.trim(log.next))
    if probe.keeps:
        async with probe.opened(check) as log:
            if log.snapshot != expected:
                what = f"snapshot is {_short(log.snapshot)} instead of {expected} when the journal is opened again"
                fail(check, what, "keep the last snapshot, whatever is appended or trimmed after it")


async def a_reopened_log_is_as_it_was(probe: LogProbe) -> None:
    """Check that a log which is opened again has its records, and continues at its position."""
    check = "reopening"
    if not probe.keeps:
        return
    expected: list[bytes] = []
    async with probe.opened(check) as log:
        start = log.next
    for n in range(5):
        async with probe.opened(check) as log:
            if log.next != start + len(expected):
                what = f"next is {log.next} instead of {start + len(expected)}"
                fail(check, what, "find the end of what is stored")
            agree(check, log)
            await probe.expect(check, log, start, expected)
            part = [b"%d/%d" % (n, m) for m in range(3)]
            if await probe.append(check, log, part) != start + len(expected):
                fail(check, "an append did not get the next index", "go on where the log stood")
            expected += part


async def a_block_that_fails_loses_nothing(probe: LogProbe) -> None:
    """Check that an exception or a cancellation passes through the open log and costs no record."""
    check = "closing"
    try:
        async with probe.opened(check) as log:
            start = log.next
            await probe.append(check, log, [b"a"])
            # A test's own exception: the log must let it pass, and keep the record.
            raise _Mark
    except _Mark:
        pass
    else:
        fail(check, "an exception raised inside `async with` was swallowed", "let it pass through")
    with trio.CancelScope() as scope:
        async with probe.opened(check) as log:
            # The log is closed in a cancelled scope, as in a service that is stopped at once.
            scope.cancel()
            await trio.lowlevel.checkpoint()
    async with probe.opened(check) as log:
        if probe.keeps:
            await probe.expect(check, log, start, [b"a"])
        await probe.append(check, log, [b"b"])


class _Mark(Exception):
    """Raised by a check inside an open log."""


def _short(snapshot: Snapshot | None) -> str:
    return "None" if snapshot is None else f"at {snapshot.index}, {snapshot.state[:20]!r}"
