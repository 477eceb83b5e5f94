"""The sqlite log and a plain list, side by side, through whatever Hypothesis makes of appends, trims and crashes.

A crash leaves the files as they are at that moment (``kill -9``); what goes on is their copy. A loss of power comes in
the middle of a commit: of what it wrote to the write-ahead file, the disk has any part. What had been acknowledged is
there in every case, what had not is there whole or not at all.
"""

from __future__ import annotations

import random
import shutil
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from hermes.base.errors import StaleWriter
from hermes.store.log import Record, Snapshot
from hermes.store.log.sqlite import log as engine
from hermes.store.log.sqlite.log import SqliteLog, open_sqlite_log
from hermes.store.log.sqlite.opening import CHECKPOINT_BYTES

SECTOR = 512  # bytes that a disk writes whole

small = st.binary(max_size=40)
large = st.builds(
    lambda size, seed: random.Random(seed).randbytes(size), st.integers(10_000, 400_000), st.integers(0, 99)
)
batches = st.lists(st.one_of(small, small, small, large), min_size=1, max_size=6)

shares = st.floats(0, 1)


class LogMachine(RuleBasedStateMachine):
    """Rules run on a thread; the log lives in the Trio task that has started it."""

    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.records: list[bytes] = []  # all that were ever appended, by index
        self.first = 0
        self.snapshot: Snapshot | None = None
        self.lives = 0
        self.stack = AsyncExitStack()
        self.log: SqliteLog

    @initialize(checkpoint_bytes=st.sampled_from([1, 100_000, CHECKPOINT_BYTES]))
    def begin(self, checkpoint_bytes: int) -> None:
        vars(engine)["CHECKPOINT_BYTES"] = checkpoint_bytes
        shutil.rmtree(self.folder, ignore_errors=True)
        self.open()

    def teardown(self) -> None:
        trio.from_thread.run(self.stack.aclose)

    @property
    def place(self) -> Path:
        return self.folder / str(self.lives)

    def open(self) -> None:
        async def enter() -> None:
            self.log = await self.stack.enter_async_context(open_sqlite_log(self.place))
            # What is not synced is lost here by other means, and a sync takes longer than all the rest.
            await self.log._writer.run(lambda connection: connection.execute("PRAGMA synchronous = OFF"))

        trio.from_thread.run(enter)
        self.everything_is_there()

    def close(self) -> None:
        trio.from_thread.run(self.stack.aclose)
        self.stack = AsyncExitStack()

    def copy(self, wal: bytes | None = None, watermark: bytes = b"") -> None:
        """Go on with the files as they are, and with this write-ahead file and watermark."""
        old = self.place
        self.lives += 1
        shutil.copytree(old, self.place)
        if wal is not None:
            (self.place / "log.db-wal").write_bytes(wal)
            (self.place / "lock").write_bytes(watermark)
        self.close()
        shutil.rmtree(old)
        self.open()

    def files(self) -> tuple[bytes, bytes]:
        """The database and the write-ahead file, as the operating system has them.

        To read them takes SQLite's locks away (POSIX), which nobody misses: the log's lock is another.
        """
        return (self.place / "log.db").read_bytes(), (self.place / "log.db-wal").read_bytes()

    # The verbs

    @rule(batch=batches, expected=st.sampled_from(["any", "right", "low", "high"]))
    def append(self, batch: list[bytes], expected: str) -> None:
        index = len(self.records)
        wanted = {"any": None, "right": index, "low": index - 1, "high": index + 1}[expected]
        append = partial(self.log.append, batch, expected_index=wanted)
        if expected in ("low", "high"):
            with pytest.raises(StaleWriter):
                trio.from_thread.run(append)
        else:
            assert trio.from_thread.run(append) == index
            self.records += batch

    @rule(together=st.lists(batches, min_size=2, max_size=8))
    def append_together(self, together: list[list[bytes]]) -> None:
        places: dict[int, list[bytes]] = {}

        async def append(batch: list[bytes]) -> None:
            places[await self.log.append(batch)] = batch

        async def run() -> None:
            async with trio.open_nursery() as nursery:
                for batch in together:
                    nursery.start_soon(append, batch)

        trio.from_thread.run(run)
        for index in sorted(places):
            assert index == len(self.records)
            self.records += places[index]

    def index_at(self, share: float) -> int:
        """An index from 0 to beyond the end; what Hypothesis draws may not depend on when a cancellation came."""
        return int(share * (len(self.records) + 2))

    @rule(share=shares, max_records=st.integers(1, 20), max_bytes=st.integers(1, 500_000))
    def read(self, share: float, max_records: int, max_bytes: int) -> None:
        index = self.index_at(share)
        read = partial(self.log.read, index, max_records=max_records, max_bytes=max_bytes)
        expected: list[Record] = []
        size = 0
        for place in range(max(index, self.first), len(self.records)):
            size += len(self.records[place])
            if expected and (size > max_bytes or len(expected) == max_records):
                break
            expected.append(Record(place, self.records[place]))
        assert trio.from_thread.run(read) == expected

    @rule(share=shares)
    def trim(self, share: float) -> None:
        index = self.index_at(share)
        trio.from_thread.run(self.log.trim, index)
        self.first = max(self.first, min(index, len(self.records)))

    @rule(share=shares, state=st.one_of(small, large))
    def take_snapshot(self, share: float, state: bytes) -> None:
        index = min(self.index_at(share), len(self.records))
        trio.from_thread.run(self.log.take_snapshot, index, state)
        self.snapshot = Snapshot(index, state)

    @rule(batch=batches, seconds=st.sampled_from([0, 0.0002, 0.001]))
    def append_cancelled(self, batch: list[bytes], seconds: float) -> None:
        async def run() -> None:
            with trio.move_on_after(seconds):
                await self.log.append(batch)

        trio.from_thread.run(run)
        if self.log.next > len(self.records):
            self.records += batch

    # What comes between

    @rule()
    def reopen(self) -> None:
        self.close()
        self.open()

    @rule()
    def crash(self) -> None:
        self.copy()

    @rule(batch=batches, seed=st.integers(0, 2**16), in_order=st.booleans())
    def lose_power_during_an_append(self, batch: list[bytes], seed: int, in_order: bool) -> None:
        database, before = self.files()
        watermark = (self.place / "lock").read_bytes()
        trio.from_thread.run(self.log.append, batch)
        database_after, after = self.files()
        if database != database_after or before == after:  # a checkpoint came meanwhile, so it had been acknowledged
            self.records += batch
            self.copy()
            return
        chance = random.Random(seed)
        before = before.ljust(len(after), b"\0")
        if in_order:
            at = chance.randrange(len(after) + 1)
            torn = after[:at] + before[at:]
        else:  # but the header, which SQLite syncs before what follows it
            sectors = [(after if not at or chance.random() < 0.5 else before)[at:][:SECTOR] for at in _sectors(after)]
            torn = b"".join(sectors)
        self.unsettled = batch
        self.copy(torn, watermark)

    # What holds

    unsettled: list[bytes] | None = None
    """The records of an append that was not acknowledged: they may be there, all of them."""

    def everything_is_there(self) -> None:
        if self.unsettled is not None and self.log.next == len(self.records) + len(self.unsettled):
            self.records += self.unsettled
        self.unsettled = None
        assert (self.log.first, self.log.next) == (self.first, len(self.records))
        assert self.log.cut is None
        index = self.first
        while index < len(self.records):
            for record in trio.from_thread.run(partial(self.log.read, index)):
                assert (record.index, record.data) == (index, self.records[index])
                index += 1

    @invariant()
    def what_it_says_of_itself_is_true(self) -> None:
        if hasattr(self, "log"):
            numbers = self.log.statistics()
            assert (self.log.first, self.log.next) == (numbers.first, numbers.next) == (self.first, len(self.records))
            assert numbers.bytes == sum(map(len, self.records[self.first :]))
            assert self.log.snapshot == self.snapshot


def _sectors(data: bytes) -> range:
    return range(0, len(data), SECTOR)


async def test_the_log_is_a_list_that_survives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "CHECKPOINT_BYTES", CHECKPOINT_BYTES)  # for each example sets it
    LogMachine.folder = tmp_path / "journal"
    limits = settings(max_examples=25, stateful_step_count=25, suppress_health_check=list(HealthCheck))
    run: Any = partial(run_state_machine_as_test, LogMachine, settings=limits)
    await trio.to_thread.run_sync(run)
