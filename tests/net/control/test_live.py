"""The live status over HTTP: when it comes, that it ends, and that nothing piles up for one who does not read."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from hermes.net.control import live as module
from hermes.net.control.live import Live, _Stream
from tests.net.control.kit import admin_app


class Counting:
    """A feed whose status is how often it was ticked and made."""

    def __init__(self) -> None:
        self.ticks = self.made = 0
        self.live = Live(self._tick, self._render)

    def _tick(self) -> None:
        self.ticks += 1

    def _render(self) -> bytes:
        self.made += 1
        return b'{"ticks":%d}' % self.ticks


def tick_of(block: bytes) -> int:
    (line,) = [line for line in block.splitlines() if line.startswith(b"data: ")]
    assert b"event: status\n" in block
    assert block.endswith(b"\n\n")
    found = json.loads(line.removeprefix(b"data: "))["ticks"]
    assert isinstance(found, int)
    return found


@pytest.fixture
async def counting(nursery: trio.Nursery) -> AsyncIterator[Counting]:
    counting = Counting()
    nursery.start_soon(counting.live.run)
    await wait_all_tasks_blocked()
    yield counting
    nursery.cancel_scope.cancel()


async def test_the_first_status_comes_at_once_and_then_one_every_second(
    counting: Counting, autojump_clock: None
) -> None:
    began = trio.current_time()
    async with _Stream(counting.live) as stream:
        blocks = [await anext(stream) for _ in range(4)]
        assert trio.current_time() - began == pytest.approx(3)
    assert blocks[0].startswith(b"retry: 1000\n")
    assert list(map(tick_of, blocks)) == [0, 1, 2, 3]


async def test_the_status_is_made_once_for_all_who_watch_and_not_while_nobody_does(
    counting: Counting, autojump_clock: None
) -> None:
    await trio.sleep(10.5)
    assert (counting.ticks, counting.made) == (10, 0)
    async with _Stream(counting.live) as one, _Stream(counting.live) as other:
        await anext(one)
        await anext(other)
        before = counting.made
        found = []

        async def take(stream: _Stream) -> None:
            found.append(await anext(stream))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take, one)
            nursery.start_soon(take, other)
        assert list(map(tick_of, found)) == [11, 11]
        assert counting.made == before + 1


async def test_one_who_reads_slowly_gets_the_latest_and_misses_others(counting: Counting, autojump_clock: None) -> None:
    async with _Stream(counting.live) as stream:
        await anext(stream)
        await trio.sleep(7.5)
        assert tick_of(await anext(stream)) == 8


async def test_every_stream_ends_with_the_service(counting: Counting, autojump_clock: None) -> None:
    async with _Stream(counting.live) as stream:
        await anext(stream)
        await trio.sleep(0.3)
        began = trio.current_time()
        counting.live.end()
        assert await anext(stream) == b"event: end\ndata: {}\n\n"
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        assert trio.current_time() == began
    assert counting.live.watchers == 0


async def test_one_who_comes_after_the_end_gets_the_status_and_the_end(
    counting: Counting, autojump_clock: None
) -> None:
    counting.live.end()
    async with _Stream(counting.live) as stream:
        blocks = [block async for block in stream]
    assert len(blocks) == 2


async def test_the_status_is_there_as_json() -> None:
    app = admin_app(live=Counting().live)
    answer = await app.test_client().get("/status")
    assert (answer.status_code, answer.content_type) == (200, "application/json")
    assert answer.headers["Cache-Control"] == "no-store"
    assert await answer.get_json() == {"ticks": 0}


async def test_too_many_are_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_STREAMS", 0)
    answer = await admin_app().test_client().get("/live")
    assert answer.status_code == 503
    assert "0 clients watch already" in (await answer.get_json(force=True))["detail"]


async def test_head_is_answered_without_a_stream() -> None:
    client = admin_app().test_client()
    for path, kind in (("/live", "text/event-stream"), ("/tap", "application/x-ndjson")):
        answer = await client.head(path)
        assert (answer.status_code, answer.content_type) == (200, kind)
