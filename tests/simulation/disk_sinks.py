"""The built-in sinks that keep files, as they are, on the simulated disk: the sqlite sink and the file sink.

What the oracle knows of one it reads from the files. Invariants: the sqlite sink has an id once; the file sink, which
has no key, has it at least once, and every line of it is a whole event when all is over. Nothing refuses an event here;
what goes wrong is the disk's trouble.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec
import trio
from hermes_sinks import file, sqlite

from hermes.base.errors import BatchRejected
from hermes.events.configured_sinks import ConfiguredSink
from hermes.events.event import Batch, Event
from hermes.events.sink import Sink, SinkPlugin
from tests.simulation.disk import DATA, Disk
from tests.simulation.sinks import Mood, SinkPlan
from tests.simulation.stored import as_event, lines, table_rows
from tests.simulation.trace import Trace

Codec: TypeAlias = Literal["none", "gzip", "zstd"]

_TABLE = "sink/events.db"
_FOLDER = "files/events"
FILES = {"sqlite": [f"{DATA}/sink"], "file": [f"{DATA}/files", f"{DATA}/files/events/events.jsonl"]}
"""Where each keeps what it has: its folder, and the file that it appends to."""


@dataclass
class DiskSink:
    """A sink of ours and its files. ``confirmed`` counts the events whose storing this life was told of."""

    plan: SinkPlan
    disk: Disk
    trace: Trace
    mood: Mood = Mood.UP
    cured: bool = True
    confirmed: int = 0
    complaints: list[str] = field(default_factory=list)
    _seen: tuple[Any, int] = (None, 0)
    _rows: list[Event] = field(default_factory=list)
    _stored: dict[str, Event] = field(default_factory=dict)

    @property
    def rows(self) -> Sequence[Event]:
        """What the files have now, oldest first."""
        self._look()
        return self._rows

    @property
    def stored(self) -> dict[str, Event]:
        """The same by event id."""
        self._look()
        return self._stored

    @property
    def repeated(self) -> Counter[str]:
        """How often each event is there beyond the first time."""
        return Counter(event.id for event in self.rows) - Counter(self.stored.keys())

    def refuses(self, _event_id: str) -> bool:
        """Nothing is refused."""
        return False

    def may_have_refused(self, _event_id: str) -> bool:
        """Nothing ever was."""
        return False

    def disconnect(self) -> None:
        """Its files are on the disk, which has crashed."""

    def configured(self, _life: int) -> ConfiguredSink:
        """The sink as a life of the service gets it."""
        settings = self.plan.settings
        assert settings is not None
        opened: Any = file.open_file if isinstance(settings, file.FileSettings) else sqlite.open_sqlite

        @asynccontextmanager
        async def open_counted(*arguments: Any) -> AsyncIterator[Sink]:
            self.confirmed = 0
            inner: AbstractAsyncContextManager[Any] = opened(*arguments)
            async with inner as sink:
                yield _Counted(sink, self)

        return ConfiguredSink(self.plan.name, SinkPlugin(open_counted), settings, self.plan.delivery)

    def check_files(self) -> None:
        """All is over: every line is a whole event."""
        if self.plan.kind == "file":
            for line in lines(self.disk, _FOLDER):
                if not line.endswith(b"\n") or not _is_event(line):
                    self.complaints.append(f"sink {self.plan.name}: a torn line: {line!r}")

    def _look(self) -> None:
        now = (self.disk.mount, self.disk.mount.version)
        if self._seen == now:
            return
        self._seen = now
        if self.plan.kind == "file":
            self._rows = [as_event(line) for line in lines(self.disk, _FOLDER) if _is_event(line)]
        else:
            self._rows = table_rows(self.disk, _TABLE)
        self._stored = {}
        for event in self._rows:
            self._stored.setdefault(event.id, event)


class _Counted:
    """A sink whose confirmed events are counted, and whose callers are checked."""

    def __init__(self, inner: Any, machine: DiskSink) -> None:
        self.max_batch = machine.plan.max_batch[0]
        self.concurrency = inner.concurrency
        self._inner = inner
        self._machine = machine
        self._running = 0

    async def write(self, batch: Batch) -> None:
        machine = self._machine
        if not 0 < len(batch) <= self.max_batch or self._running >= self.concurrency:
            machine.complaints.append(f"sink {machine.plan.name}: {len(batch)} events, {self._running} writes beside")
        machine.trace.note("sink", machine.plan.name, "write", len(batch))
        self._running += 1
        outcome = "raised"
        try:
            await self._inner.write(batch)
            machine.confirmed += len(batch)
            outcome = "stored"
        except BatchRejected as refusal:
            machine.complaints.append(f"sink {machine.plan.name}: refused {refusal}")
            raise
        except trio.Cancelled:
            outcome = "cancelled"
            raise
        finally:
            self._running -= 1
            machine.trace.note("sink", machine.plan.name, outcome, len(batch))


def _is_event(line: bytes) -> bool:
    try:
        as_event(line)
    except (msgspec.MsgspecError, UnicodeError):
        return False
    return True


def make_settings(kind: str, max_bytes: int, max_age: float, compress: Codec) -> msgspec.Struct:
    """The settings of a sink of this kind; its files are in folders that are not there yet."""
    if kind == "sqlite":
        return sqlite.SqliteSettings(path=Path(_TABLE))
    return file.FileSettings(path=Path(_FOLDER), max_bytes=max_bytes, max_age=max_age, compress=compress)
