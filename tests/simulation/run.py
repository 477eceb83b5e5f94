"""One run of the simulation: the world of a seed, from the first request to the judgement.

    clients and faults → faults cease → all is drained → a fresh event passes → a stop → a start that owes nothing

Invariant: everything that could differ between two runs of a seed is seeded here (chance, the scheduler's order, the
wall clock), so that they give the same trace. Called by the runner, by the tests and by whoever replays a seed.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from traceback import format_exception
from typing import Any
from unittest import mock

import structlog
import trio
from hermes_sinks.file import FileSink
from trio.testing import MockClock

import hermes.app
from hermes.app import Running
from hermes.events.engine.ledger import Account
from hermes.events.letters import to_event
from hermes.net.http import reactor
from tests.http_client import Client
from tests.service import engine_of
from tests.settings import Chosen
from tests.simulation.calls import calls_on
from tests.simulation.clients import SimulatedClient
from tests.simulation.disk import Disk, open_disk
from tests.simulation.faults import Fault
from tests.simulation.network import Weather
from tests.simulation.plan import Plan, make_plan
from tests.simulation.requests import Request, make_event, make_request
from tests.simulation.stored import kept_letters
from tests.simulation.threads import threads_at_moments
from tests.simulation.trace import Trace
from tests.simulation.vfs import sqlite_on
from tests.simulation.world import Hopeless, World, until

_EPOCH = 1_700_000_000.0
_DRAIN_SECONDS = 120.0
_FRESH_SECONDS = 30.0
_LONGEST_RUN = 600.0
_LOOK_SECONDS = 0.25
_JOURNAL_SLACK = 1000  # bytes: what a record has beyond the body of its request


@dataclass(frozen=True)
class Result:
    """What came of a seed. No ``problems``: it passed. ``digest`` tells runs apart; ``trace`` is its last lines."""

    plan: Plan
    problems: list[str]
    digest: str
    trace: list[str]
    tally: Counter[str]


def simulate(seed: int, *, keep: int = 200) -> Result:
    """Run a seed; ``keep`` lines of its trace are kept."""
    plan, trace = make_plan(seed), Trace(keep)

    async def main() -> None:
        with trio.move_on_after(_LONGEST_RUN) as scope:
            try:
                await _run(world)
            except* Hopeless as hopeless:
                trace.comment("".join(format_exception(hopeless)))
        if scope.cancelled_caught:
            world.oracle.find("the run did not end")

    with open_disk(plan.random("disk"), trace, plan.disk_latency) as disk, _everything_seeded(plan, trace, disk):
        world = World(plan, trace, disk)
        # Around the run, which a signal may break off without unwinding its tasks: what is patched must come back.
        with _own_wall_clock(world), threads_at_moments(lambda: disk.pause(world.is_over)):
            trio.run(main, clock=MockClock(autojump_threshold=0))
    tally = world.oracle.tally()
    tally["torn files"], tally["syncs"], tally["refused by the disk"] = disk.torn, disk.syncs, disk.failures
    return Result(plan, world.oracle.problems, trace.digest, list(trace.last), tally)


async def _run(world: World) -> None:
    plan, oracle = world.plan, world.oracle
    async with trio.open_nursery() as service:
        service.start_soon(world.run_service)
        service.start_soon(_audit, world)
        async with trio.open_nursery() as faults:
            for fault in plan.timetable:
                faults.start_soon(_strike, fault, world)
            async with trio.open_nursery() as clients:
                for client in plan.clients:
                    chance = plan.random(f"client {client.number}")
                    clients.start_soon(SimulatedClient(client, chance, world.network, oracle, world.trace).run)
        world.calm()
        world.trace.note("calm")
        await trio.sleep(max(sink.delivery.breaker_open for sink in plan.sinks))
        await _drain(world)
        if plan.cure:
            await _cure(world)
        await _pass_a_fresh_event(world)
        await _drain(world)
        _expect_room(world, await world.wait_up())
        world.restart(down=0.0)
        await _expect_nothing_owed(world)
        await world.finish()
        service.cancel_scope.cancel()
    if not oracle.lives[-1].clean:
        oracle.find("the last stop was not clean")
    oracle.judge([(letter.source.name, to_event(letter)) for letter in kept_letters(world.disk)])
    if not plan.timetable:
        oracle.expect_no_repetition()


async def _audit(world: World) -> None:
    """Look at the service while it works: its account adds up at any time, and its bounds hold."""
    while True:
        await trio.sleep(_LOOK_SECONDS)
        life = world.life
        if life is None or (running := life.running) is None:
            continue
        if not all(account.balanced for account in _accounts(running)):
            world.oracle.find(f"the account does not add up: {_accounts(running)}")
        engine = engine_of(running)
        backlogs = [delivery._backlog for delivery in engine.deliveries]
        world.oracle.put_back += sum(backlog.records.refused_on_disk for backlog in backlogs if backlog is not None)
        if not 0 <= engine.queued <= life.settings.queue_size:
            world.oracle.find(f"{engine.queued} events in a queue of {life.settings.queue_size}")
        if engine.journal is not None and engine.journal.bytes > _largest_journal(life.settings):
            world.oracle.find(f"{engine.journal.bytes} bytes in a journal of {life.settings.journal_max_bytes}")


def _largest_journal(settings: Chosen) -> int:
    """Bytes. Who waits for room in the queue has been asked about room in the journal before."""
    waiting = settings.queue_bytes if settings.backpressure_mode == "block" else 0
    return settings.journal_max_bytes + waiting + _JOURNAL_SLACK


async def _strike(fault: Fault, world: World) -> None:
    await trio.sleep_until(fault.at)
    world.trace.note("fault", fault)
    await fault.strike(world)


async def _drain(world: World) -> None:
    """Wait until every sink has what it is owed and every account is settled."""
    with trio.move_on_after(_DRAIN_SECONDS) as scope:
        while True:
            accounts = _accounts(await world.wait_up())
            owed = world.oracle.owed(accounts)
            if not any(owed.values()) and not any(account.in_flight for account in accounts):
                break
            await trio.sleep(_LOOK_SECONDS)
    if scope.cancelled_caught:
        world.oracle.find(f"not drained within {_DRAIN_SECONDS} s: owed {owed}, accounts {accounts}")


def _accounts(running: Running) -> list[Account]:
    return [delivery.account() for delivery in engine_of(running).deliveries]


async def _cure(world: World) -> None:
    """Nothing is poison any more: the dead letters of all sinks are delivered, and none is left."""
    for sink in world.sinks:
        sink.cured = True
    with trio.move_on_after(_DRAIN_SECONDS) as scope:
        while kept_letters(world.disk):
            await world.wait_up()
            await world.replay_letters()
            await trio.sleep(_LOOK_SECONDS)
    if scope.cancelled_caught:
        world.oracle.find(f"{len(kept_letters(world.disk))} dead letters could not be replayed")


async def _pass_a_fresh_event(world: World) -> None:
    """After all that, the service has to work."""
    event = make_event(world.plan.random("fresh"), "fresh")
    request = make_request(world.plan.random("fresh"), "fresh", [event], None)
    world.oracle.issue(request)
    with trio.move_on_after(_FRESH_SECONDS) as scope:
        while not await _post(world, request):  # noqa: ASYNC110 - as a client does it
            await trio.sleep(1)
        await until(lambda: all(event.id in sink.stored or sink.refuses(event.id) for sink in world.sinks))
    if scope.cancelled_caught:
        world.oracle.find("a fresh event did not pass")


async def _post(world: World, request: Request) -> bool:
    await world.wait_up()
    stream = await world.network.connect(Weather())
    world.oracle.attempt(request)
    answer = await Client(stream, _FRESH_SECONDS).ask(request.data)
    await stream.aclose()
    return world.oracle.answer(request, answer, stream.life)


def _expect_room(world: World, running: Running) -> None:
    """Nothing is under way, so nothing holds room."""
    admission = engine_of(running).intake.admission
    if admission.events or admission.bytes:
        world.oracle.find(f"nothing is under way, and yet {admission.events} events, {admission.bytes} bytes hold room")


async def _expect_nothing_owed(world: World) -> None:
    """All was settled before the stop, so a start has nothing to deliver again, and the journal is empty."""
    engine = engine_of(await world.wait_up())
    for delivery in engine.deliveries:
        if account := delivery.account().accepted:
            world.oracle.find(f"{delivery.name}: all was settled, and yet a start delivers {account} events again")
    if engine.journal is not None:
        await trio.sleep(_LOOK_SECONDS)
        kept = engine.journal.statistics()
        if kept["first"] != kept["next"]:
            world.oracle.find(f"all was settled, and yet the journal keeps {kept}")


@contextmanager
def _own_wall_clock(world: World) -> Iterator[None]:
    """The service's `time.time` is the virtual clock with the steps of the timetable."""

    def now() -> float:
        return _EPOCH + trio.current_time() + world.clock_offset

    # What a sink has for its clock by default was looked up when it was imported.
    with mock.patch("time.time", now), mock.patch.object(FileSink.__init__, "__defaults__", (now,)):
        yield


@contextmanager
def _everything_seeded(plan: Plan, trace: Trace, disk: Disk) -> Iterator[None]:
    """The chance that Hermes and Trio take for themselves comes from the seed; log lines go into the trace."""
    scheduler: Any = trio._core._run
    chances = (random, scheduler._r)
    states = [chance.getstate() for chance in chances]
    deterministic = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    processors = structlog.get_config()["processors"]
    before = list(processors)

    def note(_logger: object, level: str, line: structlog.typing.EventDict) -> structlog.typing.ProcessorReturnValue:
        trace.comment(level, line.pop("event"), line)
        raise structlog.DropEvent

    try:
        for chance in chances:
            chance.seed(f"{plan.seed}/hermes")
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True
        processors[:] = [note]  # in place, for loggers keep the list that they were made with
        with mock.patch.object(hermes.app, "_freeze_garbage_collector"), ExitStack() as bounds:
            # How long a turn of the reactor may take is real time, which no seed decides.
            bounds.enter_context(mock.patch.object(reactor, "perf_counter", float))
            bounds.enter_context(sqlite_on(disk))
            bounds.enter_context(calls_on(disk))
            for name, value in plan.bounds.items():
                bounds.enter_context(mock.patch(name, value))
            yield
    finally:
        processors[:] = before
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = deterministic
        for chance, state in zip(chances, states, strict=True):
            chance.setstate(state)
