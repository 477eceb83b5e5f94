"""The sink keeps the contract of Hermes, and does what it adds to it."""

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec
import pytest
from hermes_sink_example import JsonlSettings, JsonlSink, open_jsonl

from hermes import ConfigError, Event, SinkUnavailable, Storage
from hermes.testing import check_sink, make_batch


def opened(folder: Path, path: str = "events.jsonl") -> AbstractAsyncContextManager[JsonlSink]:
    return open_jsonl(JsonlSettings(Path(path)), Storage(hermes_data_dir=folder))


def stored(path: Path) -> list[Event]:
    events = []
    for line in path.read_bytes().splitlines():
        try:
            events.append(msgspec.json.decode(line, type=Event))
        except msgspec.DecodeError:  # an event whose payload was no valid UTF-8: check_sink sends one
            continue
    return events


async def test_it_conforms(tmp_path: Path) -> None:
    async def read_back() -> list[Event]:
        return stored(tmp_path / "events.jsonl")

    await check_sink(lambda: opened(tmp_path), read_back, keeps_order=True, atomic=True, exact_payload=False)


async def test_a_full_disk_is_unavailable() -> None:
    async with opened(Path("/dev"), "full") as sink:
        with pytest.raises(SinkUnavailable):
            await sink.write(make_batch(3))


async def test_a_path_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="SINK_JSONL_PATH"):
        async with opened(tmp_path, str(tmp_path)):
            pass
