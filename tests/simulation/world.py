"""The simulated world: a network, a disk and sinks, and in it the service, one life after the other.

A life is `hermes.app.serve` on what this world lends it. It ends by a graceful stop, or by a crash after any step of
any of its tasks: from that step on nothing of it reaches network, disk or sinks, whatever its clean-up may try, and it
is cancelled. Then the next life starts on what the disk has kept. Invariant: one life at a time. Made by the run; the
timetable strikes it.
"""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import trio

from hermes.app import Running, serve
from hermes.base.errors import ConfigError, LogUnavailable
from hermes.dead_letters import Selection
from hermes.dead_letters.desk import DeadLetterDesk
from hermes.dead_letters.replay import replay
from hermes.dead_letters.sqlite import SqliteDeadLetters, open_sqlite_dead_letters
from hermes.storage import DEAD_LETTERS_FILE, open_log
from hermes.storage import World as Outside
from hermes.store.log import Log
from hermes.store.settings import Storage
from tests.service import configuration_of, engine_of
from tests.simulation.disk import DATA, Disk, Trouble
from tests.simulation.disk_sinks import DiskSink
from tests.simulation.door import Door, open_door
from tests.simulation.faults import Crash
from tests.simulation.network import Network, SimulatedListener
from tests.simulation.oracle import LifeRecord, Oracle
from tests.simulation.plan import Plan
from tests.simulation.sinks import JudgedSink, Mood, SimulatedSink, SinkPlan
from tests.simulation.trace import Trace

_LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
_LONGEST_DEATH = 10.0  # virtual seconds that the tasks of a cancelled life may take to end
_BEFORE_START = 0.05
_LOOK_SECONDS = 0.05


class Hopeless(Exception):
    """A life has ended by itself, and the next one would as well: the run ends here."""


class Life:
    """One process of the service. ``crashed_at`` is None while it has not crashed."""

    def __init__(self, world: World, number: int) -> None:
        self.number = number
        self._mount = world.disk.mount
        settings = world.plan.settings[number % len(world.plan.settings)]
        self.settings = settings.but(hermes_data_dir=self._mount.root / DATA)
        self.stop = trio.Event()
        self.running: Running | None = None
        self.crashed_at: float | None = None
        self._world = world
        self._scope = trio.CancelScope()
        self._refused_before = world.disk.failures
        self._listener = world.network.listen(number)
        self._visits: list[trio.CancelScope] = []
        self._door: Door | None = None

    @property
    def ending(self) -> bool:
        """Whether it has been told to stop, or has crashed."""
        return self.stop.is_set() or self.crashed_at is not None

    def started(self, value: Any = None) -> None:
        """What the service calls when it is up, with its `Running`."""
        self.running = value
        self._world.trace.note("up", self.number)

    async def run(self) -> LifeRecord:
        """Live until the service ends, of whatever."""
        world, clean = self._world, None
        world.trace.note("start", self.number)
        sinks = [sink.configured(self.number) for sink in world.sinks]
        async with self._open_listeners() as listeners:
            outside = Outside(self._open_log, self._open_dead_letters, listeners)
            token = _LIFE.set(self)
            try:
                with self._scope:
                    clean = await serve(configuration_of(self.settings, sinks), self.stop, self, outside)
            except Exception as error:  # noqa: BLE001 - whatever has ended the service is the finding
                if self.crashed_at is None:
                    self._explain(error)
            finally:
                _LIFE.reset(token)
        self._listener.stop()
        if self.crashed_at is None:
            world.disk.crash(power=False)  # what was written is with the kernel, synced or not
            self._check_end()
        elif trio.current_time() - self.crashed_at > _LONGEST_DEATH:
            world.oracle.find(f"life {self.number}: its tasks took too long to end when it was cancelled")
        accounts = [delivery.account() for delivery in engine_of(self.running).deliveries] if self.running else []
        world.trace.note("end", self.number, clean, *accounts)
        return LifeRecord(self.number, self.crashed_at is not None, clean, accounts)

    def crash(self, *, power: bool) -> None:
        """End it now: this is the last moment from which anything reaches the world."""
        world = self._world
        world.trace.note("crash", self.number, "power" if power else "process")
        self.crashed_at = trio.current_time()
        world.disk.crash(power=power)
        world.network.crash(self._listener)
        for sink in world.sinks:
            sink.disconnect()
        self._scope.cancel()
        self._end_visits()

    def end(self) -> None:
        """Ask it to stop gracefully."""
        self.stop.set()
        self._end_visits()

    async def replay_letters(self, running: Running) -> None:
        """What an operator does: send all dead letters to their sinks again. It ends when the life does."""
        desk: DeadLetterDesk = running.parts["dead_letters"].value
        token = _LIFE.set(self)
        try:
            with trio.CancelScope() as visit:
                self._visits.append(visit)
                for replayed in await replay(desk.store, Selection(), desk.targets):
                    self._world.trace.note("replayed", replayed)
        except LogUnavailable:
            self._world.trace.note("not replayed")
        finally:
            _LIFE.reset(token)

    def _explain(self, error: Exception) -> None:
        """It has ended by itself: well, if it could not start on a disk that is in trouble. Raises `Hopeless`."""
        world = self._world
        refused = world.disk.failures > self._refused_before
        if not isinstance(error, LogUnavailable | ConfigError) or self.running is not None or not refused:
            world.oracle.find(f"life {self.number} ended of {_words(error)}")
            raise Hopeless from error
        world.trace.note("no start", self.number)  # whoever supervises it tries again

    def _end_visits(self) -> None:
        for visit in self._visits:
            visit.cancel()

    def _check_end(self) -> None:
        open_streams = [stream.number for stream in self._listener.accepted if not stream.closed]
        if left := self._door.left_open if self._door is not None else open_streams:
            self._world.oracle.find(f"life {self.number}: left connections open: {left}")

    @asynccontextmanager
    async def _open_listeners(self) -> AsyncIterator[list[socket.socket] | list[SimulatedListener]]:
        """The reactor's sockets in the first life and in every other one, else the streams of the lane under TLS."""
        if self.number % 2:
            async with open_door(self._listener) as door:
                self._door = door
                yield [door.socket]
        else:
            yield [self._listener]

    @asynccontextmanager
    async def _open_log(self, storage: Storage, name: str) -> AsyncIterator[Log]:
        async with open_log(storage, name) as log:
            if lost := log.statistics().lost.records:
                self._world.oracle.find(f"life {self.number}: the log says itself that {lost} records are gone")
            yield log

    @asynccontextmanager
    async def _open_dead_letters(self, storage: Storage, most: int) -> AsyncIterator[SqliteDeadLetters]:
        path = storage.hermes_data_dir / DEAD_LETTERS_FILE  # also where DURABILITY=memory keeps none
        async with open_sqlite_dead_letters(path, most) as letters:
            yield letters


class _Killer(trio.abc.Instrument):
    """Crashes a life after so many steps of its tasks, or changes of a file."""

    def __init__(self, life: Life, crash: Crash, disk: Disk) -> None:
        self._life = life
        self._crash = crash
        self._disk = disk
        self._steps = crash.steps
        if crash.while_writing is None:
            trio.lowlevel.add_instrument(self)
        else:
            disk.on_change = self._note_change

    def disarm(self) -> None:
        """It kills nobody any more, unless it has."""
        if self._crash.while_writing is not None:
            self._disk.on_change = None
        elif self._life.crashed_at is None:
            trio.lowlevel.remove_instrument(self)

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.context.get(_LIFE) is self._life and not self._count():
            trio.lowlevel.remove_instrument(self)
            self._life.crash(power=self._crash.power)

    def _note_change(self, file: str) -> None:
        assert self._crash.while_writing is not None
        if file.startswith(self._crash.while_writing) and not self._count():
            self._disk.on_change = None
            self._life.crash(power=self._crash.power)

    def _count(self) -> bool:
        """Whether there are steps left before the last one."""
        self._steps -= 1
        return self._steps >= 0


class World:
    """Everything outside of the service, and the service in it. Raises `Hopeless` where it is run."""

    def __init__(self, plan: Plan, trace: Trace, disk: Disk) -> None:
        self.plan = plan
        self.trace = trace
        self.clock_offset = 0.0
        self.disk = disk
        self.network = Network(plan.random("network"), trace)
        self.sinks = [self._make_sink(sink) for sink in plan.sinks]
        awaited = [sink.name for sink in plan.sinks if sink.delivery.required] or [plan.sinks[0].name]
        self.oracle = Oracle(
            self.sinks,
            awaited,
            durable=plan.settings[0].durability == "disk",
            smallest_journal=min(settings.journal_max_bytes for settings in plan.settings),
        )
        self.life: Life | None = None
        self._lives = 0
        self._down = 0.0
        self._killer: _Killer | None = None
        self._next_kill: Crash | None = None
        self._finished = False

    def _make_sink(self, sink: SinkPlan) -> JudgedSink:
        if sink.kind == "machine":
            return SimulatedSink(sink, self.plan.random(f"sink {sink.name}"), self.trace)
        return DiskSink(sink, self.disk, self.trace)

    def is_over(self) -> bool:
        """Whether whoever asks belongs to a life that has crashed."""
        life = _LIFE.get()
        return life is not None and life.crashed_at is not None

    async def run_service(self) -> None:
        """Life after life, until the last."""
        while True:
            self._lives += 1
            self.life = life = Life(self, self._lives)
            self._down = _BEFORE_START
            if self._next_kill is not None:
                crash, self._next_kill = self._next_kill, None
                self.arm(crash)
            record = await life.run()
            self._disarm()
            self.life = None
            self.oracle.end_life(record)
            if self._finished:
                return
            await trio.sleep(self._down)

    def arm(self, crash: Crash) -> None:
        """Crash the present life, or the next one if there is none."""
        if self.life is None:
            self._next_kill = crash
        elif self._killer is None:
            self._down = crash.down
            self._killer = _Killer(self.life, crash, self.disk)

    def arm_next_life(self, crash: Crash) -> None:
        """Crash the next life as soon as it has started."""
        self._next_kill = crash

    def restart(self, *, down: float) -> None:
        """Stop the present life gracefully; the next one comes ``down`` seconds after its end."""
        if self.life is not None:
            self._down = down
            self.life.end()

    async def replay_letters(self) -> None:
        """Replay the dead letters, if there is a life that can do it."""
        if self.life is not None and self.life.running is not None and not self.life.ending:
            await self.life.replay_letters(self.life.running)

    async def finish(self) -> None:
        """Stop the present life gracefully, and return when it has ended. It is the last."""
        self._finished = True
        self.restart(down=0.0)
        await until(lambda: self.life is None)

    async def wait_up(self) -> Running:
        """The present life, or the next, as soon as it is up and not about to end."""
        await until(lambda: self.life is not None and self.life.running is not None and not self.life.ending)
        assert self.life is not None
        assert self.life.running is not None
        return self.life.running

    def calm(self) -> None:
        """Faults cease."""
        self._disarm()
        self._next_kill = None
        self.disk.trouble = Trouble(latency=self.disk.usual_latency)
        for sink in self.sinks:
            sink.mood = Mood.UP

    def _disarm(self) -> None:
        killer, self._killer = self._killer, None
        if killer is not None:
            killer.disarm()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, looking now and then: on the virtual clock that costs nothing."""
    while not condition():  # noqa: ASYNC110 - nothing tells of the condition
        await trio.sleep(_LOOK_SECONDS)


def _words(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return f"[{', '.join(map(_words, error.exceptions))}]"
    return repr(error)
