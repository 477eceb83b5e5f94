"""The timetable: which faults strike when, and for how long. Decided by the seed, carried out by the run.

A fault is a plain value that says what it does to the world: so a failing seed can print all of them. Invariant: when
the run says that faults cease, nothing of them is left (`World.calm`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Literal, TypeAlias

import trio

from tests.simulation.sinks import Mood

if TYPE_CHECKING:
    from tests.simulation.world import World


DiskTrouble: TypeAlias = Literal["failing", "unwritable", "unreadable", "full", "over_quota", "hanging", "slow"]


@dataclass(frozen=True)
class SinkFault:
    """A sink is in a mood for some seconds."""

    at: float
    seconds: float
    sink: int
    mood: Mood

    async def strike(self, world: World) -> None:
        machine = world.sinks[self.sink]
        machine.mood = self.mood
        await trio.sleep(self.seconds)
        machine.mood = Mood.UP


@dataclass(frozen=True)
class DiskFault:
    """The disk fails to sync, to write, to read, is full, hangs, or is slow, for some seconds."""

    at: float
    seconds: float
    kind: DiskTrouble

    async def strike(self, world: World) -> None:
        trouble, usual = world.disk.trouble, world.disk.usual_latency
        attribute, bad, good = ("latency", 0.3, usual) if self.kind == "slow" else (self.kind, True, False)
        setattr(trouble, attribute, bad)
        await trio.sleep(self.seconds)
        setattr(trouble, attribute, good)


@dataclass(frozen=True)
class ClockStep:
    """The wall clock jumps."""

    at: float
    seconds: float

    async def strike(self, world: World) -> None:
        world.clock_offset += self.seconds


@dataclass(frozen=True)
class Crash:
    """The process is killed, so many steps of its tasks after the moment; with it the machine, if it is the ``power``.

    Where ``while_writing`` is given, it is killed before a change of a file whose name begins so, and ``steps`` are the
    changes before that: a commit has several. The next process starts
    ``down`` seconds later, and is killed ``again`` so many steps after its start. ``stopping``: at the moment a
    graceful stop begins, and does not come to its end.
    """

    at: float
    steps: int
    power: bool
    down: float
    while_writing: str | None = None
    again: int | None = None
    stopping: bool = False

    async def strike(self, world: World) -> None:
        world.arm(self)
        if self.stopping:
            world.restart(down=self.down)
        if self.again is not None:
            world.arm_next_life(replace(self, steps=self.again, while_writing=None, again=None, stopping=False))


@dataclass(frozen=True)
class Restart:
    """A graceful stop, and a start after it."""

    at: float
    down: float

    async def strike(self, world: World) -> None:
        world.restart(down=self.down)


@dataclass(frozen=True)
class Replay:
    """An operator sends the dead letters again; before, one sink may have been ``cured`` of its dislikes."""

    at: float
    cured: int | None

    async def strike(self, world: World) -> None:
        if self.cured is not None:
            world.sinks[self.cured].cured = True
        await world.replay_letters()


_DISK_TROUBLES: Sequence[DiskTrouble] = (
    "failing",
    "failing",
    "unwritable",
    "unreadable",
    "full",
    "over_quota",
    "hanging",
    "slow",
)
_FILES = (
    None,
    "data",
    "data/journal",
    "data/journal/log.db",
    "data/journal/lock",
    "data/dead-letters.db",
)
_CLOCK_STEPS = (-86_400, -3, -0.5, 0.5, 3, 86_400)

Fault: TypeAlias = SinkFault | DiskFault | ClockStep | Crash | Restart | Replay


def make_timetable(chance: Random, duration: float, sinks: int, files: Sequence[str]) -> list[Fault]:
    """The faults of a run, in order. The first ``sinks`` have moods, others have ``files``."""
    faults: list[Fault] = []
    if chance.random() < 0.1:
        return faults  # a day on which nothing goes wrong must end well, too
    for sink in range(sinks):
        for _ in range(chance.choice((0, 1, 1, 2))):
            mood = chance.choice([mood for mood in Mood if mood is not Mood.UP])
            faults.append(SinkFault(chance.uniform(0, duration), chance.uniform(0.05, duration / 2), sink, mood))
    for _ in range(chance.choice((0, 0, 1, 2))):
        kind = chance.choice(_DISK_TROUBLES)
        faults.append(DiskFault(chance.uniform(0, duration), chance.uniform(0.02, 2), kind))
    steps = chance.choice((0, 0, 0, 1, 2))
    faults += [ClockStep(chance.uniform(0, duration), chance.choice(_CLOCK_STEPS)) for _ in range(steps)]
    cured = chance.choice((None, 0, sinks - 1))
    faults += [Replay(chance.uniform(0, duration), cured) for _ in range(chance.choice((0, 0, 1, 2)))]
    ends = chance.choice((0, 1, 2, 3, 5))
    faults += [_make_end(chance, chance.uniform(0, duration), files) for _ in range(ends)]
    # A trouble of the disk is worst where the process dies of it, or meanwhile: what was refused may be in the cache.
    troubles = [fault for fault in faults if isinstance(fault, DiskFault) and chance.random() < 0.5]
    faults += [_make_crash(chance, fault.at + chance.uniform(0, fault.seconds), files) for fault in troubles]
    return sorted(faults, key=lambda fault: fault.at)


def _make_end(chance: Random, at: float, files: Sequence[str]) -> Fault:
    if chance.random() < 0.3:
        return Restart(at, chance.choice((0.01, 0.5, 2.0)))
    return _make_crash(chance, at, files)


def _make_crash(chance: Random, at: float, files: Sequence[str]) -> Crash:
    down = chance.choice((0.01, 0.5, 2.0))
    file = chance.choice((*_FILES, *files, *files, *files, *files))
    steps = chance.randint(0, 12 if file else 400)
    again = chance.randint(1, 300) if chance.random() < 0.3 else None
    return Crash(at, steps, chance.random() < 0.6, down, file, again, stopping=chance.random() < 0.2)
