"""The conformance suite itself: sinks that keep the contract pass, and each way of breaking it is told in words."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec
import pytest
import trio

from hermes import Batch, BatchRejected, Event, SinkUnavailable
from hermes.testing import ScriptedSink, SinkCheckFailed, check_sink


class MemorySink:
    """A faultless sink; the tests break one thing each."""

    max_batch = 50
    concurrency = 3

    def __init__(self, stored: dict[str, Event]) -> None:
        self.stored = stored

    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        for event in batch:
            self.stored.setdefault(event.id, event)

    async def aclose(self) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()


async def check(kind: type[MemorySink], **claims: object) -> None:
    stored: dict[str, Event] = {}

    @asynccontextmanager
    async def open_sink() -> AsyncIterator[MemorySink]:
        sink = kind(stored)
        try:
            yield sink
        finally:
            await sink.aclose()

    async def read_back() -> list[Event]:
        return list(stored.values())

    await check_sink(open_sink, read_back, **claims)  # type: ignore[arg-type]


async def test_a_faultless_sink_may_claim_everything(autojump_clock: trio.testing.MockClock) -> None:
    await check(MemorySink, stores_once=True, keeps_order=True, atomic=True)


async def test_the_scripted_sink_passes(autojump_clock: trio.testing.MockClock) -> None:
    sink = ScriptedSink()

    async def read_back() -> list[Event]:
        return sink.stored

    await check_sink(sink.open, read_back, keeps_order=True, atomic=True)
    assert sink.opened == sink.closed > 5


class LosesTheLast(MemorySink):
    async def write(self, batch: Batch) -> None:
        await super().write(Batch(batch.chunks[:-1]) if len(batch.chunks) > 1 else batch)


class RewritesJson(MemorySink):
    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        for event in batch:
            value = json.loads(bytes(event.payload).decode(errors="replace"))
            event = msgspec.structs.replace(event, payload=msgspec.Raw(json.dumps(value).encode()))
            self.stored.setdefault(event.id, event)


class StripsText(MemorySink):
    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        for event in batch:
            self.stored.setdefault(event.id, msgspec.structs.replace(event, user_id=event.user_id.strip()))


class ReversesOrder(MemorySink):
    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        for event in reversed(batch.events):
            self.stored.setdefault(event.id, event)


class StoresTwice(MemorySink):
    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        for event in batch:
            self.stored[f"{event.id}@{len(self.stored)}"] = event


class HasNoConcurrency(MemorySink):
    concurrency = 0


class LeaksErrors(MemorySink):
    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        if len(batch) == 3:
            raise ConnectionResetError("peer")


class IsAlwaysUnavailable(MemorySink):
    async def write(self, batch: Batch) -> None:
        await trio.lowlevel.checkpoint()
        raise SinkUnavailable("gone fishing")


class RejectsAwkward(MemorySink):
    async def write(self, batch: Batch) -> None:
        await super().write(batch)
        refused = {n: "too long" for n, event in enumerate(batch) if len(event.id) > 100}
        if refused:
            raise BatchRejected(refused)


class NamesWrongIndexes(MemorySink):
    async def write(self, batch: Batch) -> None:
        await super().write(batch)
        if any("\0" in event.id for event in batch):
            raise BatchRejected({len(batch): "off by one"})


class NeverPauses(MemorySink):
    async def write(self, batch: Batch) -> None:
        for event in batch:
            self.stored.setdefault(event.id, event)


class BlocksTheLoop(MemorySink):
    async def write(self, batch: Batch) -> None:
        await super().write(batch)
        if len(batch) == self.max_batch:
            time.sleep(1.1)  # noqa: ASYNC251  just what must not be done


class NeverReturns(MemorySink):
    async def write(self, batch: Batch) -> None:
        await trio.sleep_forever()


class NeverCloses(MemorySink):
    async def aclose(self) -> None:
        await trio.sleep_forever()


class KeepsHalf(MemorySink):
    async def write(self, batch: Batch) -> None:
        for event in batch:
            await trio.lowlevel.checkpoint()
            self.stored.setdefault(event.id, event)


class BreaksWhenCancelled(MemorySink):
    busy = False

    async def write(self, batch: Batch) -> None:
        if self.busy:
            raise SinkUnavailable("still busy")
        self.busy = True
        await super().write(batch)
        self.busy = False


class SwallowsErrors(MemorySink):
    async def aclose(self) -> None:
        raise KeyError("swallowed")


@pytest.mark.parametrize(
    ("kind", "claims", "words"),
    [
        (LosesTheLast, {}, "is not there"),
        (RewritesJson, {}, "the payload of .* came back as"),
        (StripsText, {}, "user_id of .* came back as"),
        (ReversesOrder, {"keeps_order": True}, "the order was lost"),
        (StoresTwice, {"stores_once": True}, "is stored [2-9] times"),
        (HasNoConcurrency, {}, "concurrency is 0"),
        (LeaksErrors, {}, "let ConnectionResetError escape"),
        (IsAlwaysUnavailable, {}, "gone fishing"),
        (RejectsAwkward, {}, "rejected good events"),
        (NamesWrongIndexes, {}, "off by one"),
        (NeverPauses, {}, "never let another task run"),
        (NeverReturns, {}, r"write\(\) took longer than 60 s"),
        (NeverCloses, {}, "closing took longer than 60 s"),
        (KeepsHalf, {"atomic": True}, "of its 12 events were stored"),
        (BreaksWhenCancelled, {}, "still busy"),
    ],
)
async def test_a_broken_sink_is_told_what_to_do(
    kind: type[MemorySink], claims: dict[str, bool], words: str, autojump_clock: trio.testing.MockClock
) -> None:
    with pytest.raises(SinkCheckFailed, match=words) as raised:
        await check(kind, **claims)
    assert str(raised.value).endswith(".")


class Connection:
    """A server that answers each request in its turn, however long nobody waits for the answer.

    One that ``refuses`` some events has stored the others before anybody can look, so that its answers alone tell.
    """

    def __init__(self, stored: dict[str, Event], refuses: bool) -> None:
        self.stored = stored
        self.refuses = refuses
        self._requests, self._received = trio.open_memory_channel[Batch](1000)
        self._sent, self.answers = trio.open_memory_channel[dict[int, str]](1000)

    async def send(self, batch: Batch) -> None:
        if self.refuses:
            self._store(batch)
        await self._requests.send(batch)

    async def serve(self) -> None:
        async for batch in self._received:
            await trio.sleep(0.001 * len(batch))
            self._store(batch)
            await self._sent.send({n: "a NUL" for n, event in enumerate(batch) if self._is_bad(event)})

    def close(self) -> None:
        self._requests.close()

    def _store(self, batch: Batch) -> None:
        self.stored.update((event.id, event) for event in batch if not self._is_bad(event))

    def _is_bad(self, event: Event) -> bool:
        return self.refuses and "\0" in event.id


class KeepsItsConnection(MemorySink):
    """Reads the answer to a cancelled write as that to the next one, which nothing but the answers can tell."""

    forgets_answers = False

    def __init__(self, stored: dict[str, Event], connection: Connection) -> None:
        super().__init__(stored)
        self.connection = connection
        self.owed = 0
        self.turn = trio.Lock()

    async def write(self, batch: Batch) -> None:
        async with self.turn:
            for _ in range(self.owed if self.forgets_answers else 0):
                await self.connection.answers.receive()
                self.owed -= 1
            await self.connection.send(batch)
            self.owed += 1
            refused = await self.connection.answers.receive()
            self.owed -= 1
        if refused:
            raise BatchRejected(refused)


class ForgetsLateAnswers(KeepsItsConnection):
    forgets_answers = True


async def check_connected(kind: type[KeepsItsConnection], *, refuses: bool) -> SinkCheckFailed | None:
    stored: dict[str, Event] = {}

    @asynccontextmanager
    async def open_sink() -> AsyncIterator[MemorySink]:
        connection = Connection(stored, refuses)
        nursery.start_soon(connection.serve)
        yield kind(stored, connection)
        connection.close()

    async def read_back() -> list[Event]:
        return list(stored.values())

    found = None
    async with trio.open_nursery() as nursery:
        try:
            await check_sink(open_sink, read_back, stores_once=True)
        except SinkCheckFailed as failure:
            found = failure
        nursery.cancel_scope.cancel()
    return found


@pytest.mark.parametrize("refuses", [True, False], ids=["refuses some", "takes all"])
async def test_a_sink_that_reads_the_answer_to_a_cancelled_write_as_that_to_the_next_is_found(
    refuses: bool, autojump_clock: trio.testing.MockClock
) -> None:
    found = await check_connected(KeepsItsConnection, refuses=refuses)
    assert found is not None
    told = " ".join([str(found), *getattr(found, "__notes__", [])])
    assert ("that is the answer to the cancelled write" if refuses else "after a write was cancelled") in told
    assert await check_connected(ForgetsLateAnswers, refuses=refuses) is None


async def test_json_that_was_rewritten_is_fine_where_the_sink_says_so(autojump_clock: trio.testing.MockClock) -> None:
    await check(RewritesJson, exact_payload=False)


async def test_a_sink_that_blocks_the_loop_is_told() -> None:
    with pytest.raises(SinkCheckFailed, match="kept every other task waiting"):
        await check(BlocksTheLoop)


async def test_what_a_sink_keeps_of_a_cancelled_write_is_its_own_affair_unless_it_claims_more(
    autojump_clock: trio.testing.MockClock,
) -> None:
    await check(KeepsHalf, stores_once=True)


async def test_an_error_while_closing_comes_out_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    with pytest.raises(KeyError, match="swallowed"):
        await check(SwallowsErrors)
