"""The checks of `check_log` for records: each comes back as it was appended, in order, within a read's limits.

Each check is a function of a probe and raises `LogCheckFailed`.
"""

from __future__ import annotations

from collections.abc import Sequence

from hermes.base.errors import StaleWriter
from hermes.store.log import Record, Snapshot
from hermes.testing.log_probe import LogProbe, agree, fail

# Empty records, a text protocol's line ends, bytes that are not UTF-8, an SQL injection; one record twice.
AWKWARD = [
    b"",
    b"\0",
    b"\n",
    b"\r\n",
    bytes(range(256)),
    b"'; DROP TABLE log; --",
    "é😀".encode(),
    b"\xff\xfe",
    b"",
    b"x",
]


async def attributes_are_sane(probe: LogProbe) -> None:
    """Check ``first``, ``next``, ``snapshot`` and the statistics of a log that was just opened."""
    check = "attributes"
    async with probe.opened(check) as log:
        agree(check, log)
        if not (log.snapshot is None or isinstance(log.snapshot, Snapshot)):
            fail(check, f"snapshot is {log.snapshot!r}", "it is a Snapshot, or None before the first")


async def records_come_back_in_order(probe: LogProbe) -> None:
    """Check that records are numbered without a gap and come back byte for byte."""
    check = "order"
    async with probe.opened(check) as log:
        start = log.next
        # A read at the end finds nothing, and does not wait.
        await probe.expect(check, log, start, [])
        expected: list[bytes] = []
        # Single records, several, and more than one read returns.
        for part in ([b"one"], AWKWARD, [b"two"], [b"%d" % n for n in range(300)]):
            index = await probe.append(check, log, part)
            if index != start + len(expected) or log.next != index + len(part):
                what = f"append() returned {index} and next is {log.next} after {len(part)} more records"
                fail(check, f"{what} than {start + len(expected)}", "number records from `next` on, without a gap")
            expected += part
            agree(check, log)
        await probe.expect(check, log, start, expected)
        # At least: a log may count appends of an earlier opening.
        if log.statistics().appends < 4:
            fail(check, f"statistics() says {log.statistics()} after 4 appends", "count those that succeed")


async def reads_keep_their_limits(probe: LogProbe) -> None:
    """Check that a read gives as many records as its limits allow, and at least one if there is any."""
    check = "limits of a read"
    # 10, 20, ... 80 bytes: every sum differs, so a limit is met by one number of records only.
    records = [bytes([n]) * (10 * n) for n in range(1, 9)]
    cases: list[tuple[int, dict[str, int], int]] = [
        (0, {}, 8),
        (0, {"max_records": 1}, 1),
        (0, {"max_records": 8}, 8),
        (0, {"max_records": 5}, 5),
        (3, {"max_records": 2}, 2),
        (7, {"max_records": 5}, 1),
        (0, {"max_bytes": 60}, 3),
        (0, {"max_bytes": 59}, 2),
        (2, {"max_bytes": 75}, 2),
        (0, {"max_bytes": 10}, 1),
        (0, {"max_bytes": 1}, 1),
        (7, {"max_bytes": 1}, 1),
        (8, {}, 0),
        (9, {}, 0),
        (10**12, {}, 0),
    ]
    async with probe.opened(check) as log:
        start = log.next
        # Three appends, so that reads cross and split them.
        for part in (records[:3], records[3:4], records[4:]):
            await probe.append(check, log, part)
        for offset, limits, count in cases:
            found = await probe.call(check, "read", log.read(start + offset, **limits))
            if found != _numbered(start, records)[offset : offset + count]:
                places = [record.index - start for record in found]
                what = f"read({offset}, {limits}) of 8 records of 10, 20, ... 80 bytes gave {places}"
                fail(check, what, f"give {count} from {offset} on: as many as the limits allow, at least one")


async def an_append_of_nothing_is_refused(probe: LogProbe) -> None:
    """Check that an append of no records raises ValueError and uses no index."""
    check = "an append of nothing"
    async with probe.opened(check) as log:
        start = log.next
        try:
            # Not through the probe: a call that only raises need not pause.
            await log.append([])
        except ValueError:
            pass
        else:
            fail(check, "it was taken", "raise ValueError, for it would have no index")
        if await probe.append(check, log, [b"x"]) != start:
            fail(check, "the refused append took an index", "refuse it before anything is done")


async def stale_writers_are_refused(probe: LogProbe) -> None:
    """Check that an append with another expected index than the next one is refused, and appends nothing."""
    check = "stale writers"
    async with probe.opened(check) as log:
        start = log.next
        await probe.append(check, log, [b"a", b"b"], expected_index=start)
        # Behind, in the middle of the last append, one ahead, and far ahead.
        for wrong in (start, start + 1, start + 3, 10**12):
            try:
                await probe.append(check, log, [b"stale"], expected_index=wrong)
            except StaleWriter as error:
                if error.next_index != start + 2:
                    what = f"StaleWriter.next_index is {error.next_index} where next is {start + 2}"
                    fail(check, what, "say where the log stands")
            else:
                fail(check, f"an append at {wrong} was taken where next is {start + 2}", "raise StaleWriter")
        await probe.append(check, log, [b"c"], expected_index=start + 2)
        await probe.expect(check, log, start, [b"a", b"b", b"c"])


async def large_records_come_back(probe: LogProbe) -> None:
    """Check that records of ``largest_record`` bytes are kept, and read one at a time if need be."""
    check = "large records"
    large = [bytes([n]) * (probe.largest_record - n) for n in range(2)]
    async with probe.opened(check) as log:
        start = log.next
        # A large record between small ones of the same append, and one alone.
        await probe.append(check, log, [b"before", large[0], b"between"])
        await probe.append(check, log, [large[1]])
        await probe.expect(check, log, start, [b"before", large[0], b"between", large[1]])
        found = await probe.call(check, "read", log.read(start + 1, max_bytes=1))
        if len(found) != 1:
            what = f"read() of a record over max_bytes gave {len(found)}"
            fail(check, what, "give one record, however large it is")
        # Give the space back before the next check.
        await probe.call(check, "trim", log.trim(log.next))


def _numbered(start: int, records: Sequence[bytes]) -> list[Record]:
    return [Record(start + n, data) for n, data in enumerate(records)]
