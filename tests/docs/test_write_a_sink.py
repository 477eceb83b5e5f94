"""The page for authors of sinks: its samples conform, and it has every option and every field that there is."""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
import types
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import msgspec
import pytest
import trio

from hermes import ConfigError, Event, SinkUnavailable, Storage
from hermes.config import describe, read
from hermes.events.sink import SinkPlugin
from hermes.testing import check_sink, make_batch
from tests.docs.api import MODULES
from tests.docs.test_documents import ROOT, python_sample

PAGE = "docs/how-to/write-a-sink.md"


async def test_the_sink_of_the_how_to_passes_the_conformance_suite(tmp_path: Path) -> None:
    space: dict[str, object] = {}
    exec(compile(python_sample(PAGE, "PayloadFile"), "write-a-sink.md", "exec"), space)
    plugin = space["plugin"]
    storage = Storage(hermes_data_dir=tmp_path)
    await check_sink(lambda: plugin.open(plugin.settings(), storage))  # type: ignore[attr-defined]
    assert tmp_path.joinpath("payloads").stat().st_size > 0


class LinesServer:
    """What the second sink of the how-to talks to: it takes numbered lines, and refuses events with a NUL."""

    def __init__(self) -> None:
        self.stored: dict[str, Event] = {}
        self.busy = False

    async def serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # a write was cancelled, and its connection thrown away
            await self._answer(stream)

    async def _answer(self, stream: trio.SocketStream) -> None:
        data = b""
        while part := await stream.receive_some():
            data += part
            while (head := data.partition(b"\n")[0].split()) and data.count(b"\n") > int(head[-1]):
                _, *lines, data = data.split(b"\n", int(head[-1]) + 1)
                await stream.send_all(b"busy 7\n" if self.busy else self.take(head, lines))

    def take(self, head: list[bytes], lines: list[bytes]) -> bytes:
        assert head[0] == b"hunter2"
        refused = []
        for line in lines:
            number, _, text = line.partition(b" ")
            event = msgspec.json.decode(text, type=Event)
            if "\0" in event.id:
                refused.append(number)
            else:
                self.stored.setdefault(event.id, event)
        return b" ".join([b"ok", *refused]) + b"\n"


async def test_the_sink_with_settings_of_the_how_to_passes_the_conformance_suite() -> None:
    module = types.ModuleType("my_sinks")
    with patch.dict(sys.modules, my_sinks=module):  # where the annotations of the settings are looked up
        exec(compile(python_sample(PAGE, "LinesSettings"), "write-a-sink.md", "exec"), module.__dict__)
        await check_lines(module.plugin)


async def check_lines(plugin: SinkPlugin) -> None:
    server = LinesServer()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        port = listener.socket.getsockname()[1]
        environ = {"SINK_LINES_ADDRESS": f"127.0.0.1:{port}", "SINK_LINES_TOKEN": "hunter2"}
        settings = read(plugin.settings, environ, "SINK_LINES_")
        assert plugin.check is not None
        plugin.check(settings, Storage())

        async def read_back() -> list[Event]:
            return list(server.stored.values())

        claims = {"stores_once": True, "keeps_order": True, "exact_payload": False}
        await check_sink(lambda: plugin.open(settings, Storage()), read_back, **claims)
        server.busy = True
        async with plugin.open(settings, Storage()) as sink:
            with pytest.raises(SinkUnavailable) as raised:
                await sink.write(make_batch(1))
        assert raised.value.retry_after == 7.0
        nursery.cancel_scope.cancel()
    with pytest.raises(ConfigError, match="SINK_LINES_ADDRESS='nowhere': expected host:port"):
        plugin.check(msgspec.structs.replace(settings, address="nowhere"), Storage())
    (token,) = (each for each in describe(plugin.settings, "SINK_LINES_") if each.field == "token")
    assert token.secret


def test_the_how_to_has_every_option_of_the_conformance_suite_and_every_field_of_a_plugin() -> None:
    text = (ROOT / PAGE).read_text()
    listed = re.findall(r"^\| `(\w+)` \|", text.partition("| option |")[2], re.M)
    assert listed == list(inspect.signature(check_sink).parameters)
    sample = python_sample(PAGE, "LinesSettings").partition("plugin = SinkPlugin(")[2]
    assert {field.name for field in dataclasses.fields(SinkPlugin)} - {"open", "settings"} <= set(
        re.findall(r"\w+", sample)
    )


def test_the_how_to_has_every_module_that_a_sink_may_import() -> None:
    listed = re.findall(r"^\| `(hermes[\w.]*)` \|", (ROOT / PAGE).read_text(), re.M)
    for_parts = {"hermes.part", "hermes.core", "hermes.dead_letters.desk", "hermes.dead_letters.view"}
    assert listed == [module for module in MODULES if module not in for_parts]
