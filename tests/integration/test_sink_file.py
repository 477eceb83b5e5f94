"""The file sink under the service: killed in the middle of writes and rotations, it owes no line and tears none."""

from __future__ import annotations

import io
import json
import signal
from operator import attrgetter
from pathlib import Path
from typing import Any

import httpx
import trio
import zstandard

from tests.integration.program import Load, Start, events

KILLS = 2


def content(folder: Path) -> bytes:
    """All that a shipper and a reader of the current file find, in order; no file may be torn."""
    parts = []
    for file in sorted(folder.glob("events-*")):
        data = file.read_bytes()
        if file.suffix == ".zst":
            data = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)).read()
        assert data.endswith(b"\n"), file
        parts.append(data)
    return b"".join(parts) + (folder / "events.jsonl").read_bytes()


def leftovers(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.name.startswith(".events-")}


async def test_killed_again_and_again_under_load_it_owes_no_line(start: Start, tmp_path: Path) -> None:
    environ = {"SINKS": "file", "SINK_FILE_MAX_BYTES": "40KiB", "SINK_FILE_COMPRESS": "zstd", "FLUSH_INTERVAL": "5ms"}
    folder = tmp_path / "hermes-data" / "events"
    taken: list[str] = []
    for _ in range(KILLS):
        program = start(**environ)
        load = Load(await trio.to_thread.run_sync(attrgetter("url"), program))
        async with trio.open_nursery() as nursery:
            await nursery.start(lambda load=load, **status: load.run(clients=4, pause=0.002, **status))
            await trio.to_thread.run_sync(rotate_some, program, folder, len(list_files(folder)) + 3)
            program.send_signal(signal.SIGKILL)
            await trio.to_thread.run_sync(program.wait)
        assert load.codes == {202}
        taken += load.taken
    program = start(**environ)
    await trio.to_thread.run_sync(program.drain)
    assert await trio.to_thread.run_sync(program.stop) == 0
    found = [json.loads(line) for line in content(folder).splitlines()]
    assert set(taken) <= {event["id"] for event in found}
    assert not leftovers(folder)
    assert all(event["payload"] == {"title": "Alive"} for event in found)


def list_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("events-*"))


def rotate_some(program: Any, folder: Path, files: int) -> None:
    program.wait_until(lambda: len(list_files(folder)) >= files)


def test_its_lines_are_fit_to_be_posted_again(start: Start, tmp_path: Path) -> None:
    program = start(SINKS="file", EVENT_TYPES="*", HERMES_DATA_DIR=str(tmp_path / "first"))
    sent = events(30, "first", type="app:..", payload={"text": "é\u2028\n"})
    answer = httpx.post(f"{program.url}/events", json=sent)
    assert answer.status_code == 202
    assert program.stop() == 0
    lines = content(tmp_path / "first" / "events")

    program = start(SINKS="file", EVENT_TYPES="*", HERMES_DATA_DIR=str(tmp_path / "second"))
    kind = {"Content-Type": "application/x-ndjson"}
    again = httpx.post(f"{program.url}/events", content=lines, headers=kind)
    assert again.json() == {"accepted": 30}
    assert program.stop() == 0
    assert content(tmp_path / "second" / "events") == lines
    assert [json.loads(line) for line in lines.splitlines()] == sent
