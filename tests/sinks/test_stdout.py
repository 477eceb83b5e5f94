"""The stdout sink: whole lines, the client's own payloads, and a loop that no reader can stop."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
import pytest
import trio
from hermes_sinks.common.lines import encode_lines
from hermes_sinks.stdout import CLOSE_TIMEOUT, StdoutSink
from hypothesis import given, settings
from hypothesis import strategies as st

from hermes import BatchRejected, Event, SinkUnavailable
from hermes.testing import check_sink, event_strategy, make_batch, make_event, make_events

decoder = msgspec.json.Decoder(Event)


@asynccontextmanager
async def open_on(fd: int) -> AsyncIterator[StdoutSink]:
    sink = StdoutSink(fd)
    try:
        yield sink
    finally:
        await sink.aclose()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for fd in (reader, writer):
        with suppress(OSError):  # the test has closed it
            os.close(fd)


async def read_until(fd: int, ending: bytes) -> bytes:
    found = b""
    while not found.endswith(ending):
        found += await trio.to_thread.run_sync(os.read, fd, 2**16)
    return found


async def test_it_conforms(tmp_path: Path) -> None:
    path = tmp_path / "out"

    @asynccontextmanager
    async def open_sink() -> AsyncIterator[StdoutSink]:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            async with open_on(fd) as sink:
                yield sink
        finally:
            os.close(fd)

    async def read_back() -> list[Event]:
        lines = path.read_bytes().split(b"\n")
        assert lines.pop() == b""
        return [decode_leniently(line) for line in lines]

    # A line break between the tokens of a payload becomes a space: equal JSON, other bytes.
    await check_sink(open_sink, read_back, keeps_order=True, exact_payload=False)


def decode_leniently(line: bytes) -> Event:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return make_event("not JSON")


@given(st.lists(event_strategy(), max_size=5))
@settings(max_examples=50)
def test_every_event_is_one_line_of_its_own_json(events: list[Event]) -> None:
    lines = encode_lines(events).split(b"\n")
    assert lines.pop() == b""
    assert len(lines) == len(events)
    for line, event in zip(lines, events, strict=True):
        found = json.loads(line)
        assert found.pop("payload") == json.loads(bytes(event.payload))
        assert found == {"id": event.id, "user_id": event.user_id, "type": event.type, "timestamp": event.timestamp}
        payload = bytes(event.payload)
        assert payload in line or b"\n" in payload or b"\r" in payload


async def test_a_reader_that_stalls_does_not_stop_the_loop_and_gets_every_line_whole(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    events = make_events(3000, payload=b'{"fill": "' + b"x" * 100 + b'"}')
    async with open_on(writer) as sink:
        # Far more than a pipe holds: this write is stuck until somebody reads.
        with trio.move_on_after(0.05) as gave_up:
            await sink.write(make_batch(events))
        assert gave_up.cancelled_caught
        with trio.fail_after(10):  # the loop goes on, though nobody reads
            for _ in range(100):
                await trio.lowlevel.checkpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sink.write, make_batch([make_event("last")]))
            output = await read_until(reader, encode_lines([make_event("last")]))
    # The block that was cut off is finished before the next one begins.
    assert output == encode_lines(events) + encode_lines([make_event("last")])


async def test_a_reader_that_never_returns_does_not_stop_the_end(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    with trio.fail_after(CLOSE_TIMEOUT + 5):
        async with open_on(writer) as sink:
            with trio.move_on_after(0.05):
                await sink.write(make_batch(make_events(3000, payload=b'{"fill": "' + b"x" * 100 + b'"}')))
    # The thread that was left behind goes on writing to this number, which must not become another test's pipe.
    os.close(reader)
    with trio.fail_after(5):
        await sink.aclose()
        assert sink._writer.borrowed_tokens == 0


async def test_lines_of_concurrent_writes_do_not_mix(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    output = b""
    async with open_on(writer) as sink, trio.open_nursery() as nursery:
        for n in range(5):
            nursery.start_soon(sink.write, make_batch(make_events(1000, prefix=f"writer-{n}")))
        while output.count(b"\n") < 5000:
            output += await trio.to_thread.run_sync(os.read, reader, 2**16)
    ids = [decoder.decode(line).id for line in output.splitlines()]
    assert sorted(ids) == sorted(f"writer-{n}-{m}" for n in range(5) for m in range(1000))


async def test_text_that_is_no_unicode_is_rejected_by_its_index(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    events = make_events(3)
    events[1].user_id = "half \ud800"
    async with open_on(writer) as sink:
        with pytest.raises(BatchRejected) as raised:
            await sink.write(make_batch(events))
    assert list(raised.value.reasons) == [1]
    assert os.read(reader, 2**16) == encode_lines([events[0], events[2]])


async def test_a_closed_reader_is_unavailable(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.close(reader)
    async with open_on(writer) as sink:
        with pytest.raises(SinkUnavailable, match="Broken pipe"):
            await sink.write(make_batch(3))


async def test_a_full_disk_is_unavailable() -> None:
    fd = os.open("/dev/full", os.O_WRONLY)
    try:
        async with open_on(fd) as sink:
            with pytest.raises(SinkUnavailable, match="No space left"):
                await sink.write(make_batch(3))
    finally:
        os.close(fd)


async def test_a_descriptor_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    os.set_blocking(writer, False)
    events = make_events(3000)
    async with open_on(writer) as sink, trio.open_nursery() as nursery:
        nursery.start_soon(sink.write, make_batch(events))
        assert await read_until(reader, encode_lines(events[-1:])) == encode_lines(events)


async def test_a_line_torn_by_an_error_is_finished_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = make_events(3)
    whole = encode_lines(events)
    torn_at = len(encode_lines(events[:1])) + 10
    fd = os.open(tmp_path / "out", os.O_WRONLY | os.O_CREAT)
    write, calls = os.write, 0

    def write_some_then_fail(fd: int, data: memoryview) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(fd, data[:torn_at])
        if calls == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(fd, data)

    monkeypatch.setattr("hermes_sinks.stdout.os.write", write_some_then_fail)
    try:
        async with open_on(fd) as sink:
            with pytest.raises(SinkUnavailable):
                await sink.write(make_batch(events))
            await sink.write(make_batch(events))
    finally:
        os.close(fd)
    assert (tmp_path / "out").read_bytes() == encode_lines(events[:2]) + whole
