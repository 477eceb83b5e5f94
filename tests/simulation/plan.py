"""What a seed decides: the settings, the sinks, the clients, and the timetable of faults. The same seed, the same plan.

Everything is small, so that a run of a few virtual seconds fills queues, opens breakers and crowds the journal. Pure.
Made by the run; printed when a seed fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Any, Literal

from msgspec import structs

from hermes.events.sink import DeliverySettings
from tests.settings import Chosen
from tests.simulation.disk_sinks import FILES, make_settings
from tests.simulation.faults import Fault, SinkFault, make_timetable
from tests.simulation.network import Weather
from tests.simulation.sinks import Mood, SinkPlan

MOST_EVENTS = 12  # of one request

_BOUNDS = {
    "hermes.events.engine.backlog._READ_RECORDS": (1, 3, 20),
    "hermes.events.engine.backlog._READ_BYTES": (100, 3000),
    "hermes.events.engine.intake._MOST_AT_ONCE": (1, 5, 20),
    "hermes.events.engine.slices.MOST_ANSWERS": (1, 3),
    "hermes.events.engine.receipts.MAX_OPEN": (1, 4),
    "hermes.events.engine.backlog._MOST_AT_ONCE": (1, 5),
    "hermes.events.engine.backlog.MAX_RANGES": (1, 3),
    "hermes.net.http.connection.MAX_SLOTS": (1, 3),
    "hermes.store.log.group.MAX_COMMIT_RECORDS": (1, 3),
    "hermes.store.log.rows.ROW_BYTES": (1, 300, 2000),
    "hermes.store.log.sqlite.log.CHECKPOINT_BYTES": (1, 100_000, 400_000),
    "hermes.store.log.sqlite.log.MAX_UNCHECKPOINTED_BYTES": (200_000, 1_000_000),
    "hermes.store.log.sqlite.tables.DELETE_ROWS": (1, 3),
    "hermes.store.log.sqlite.tables.SPARE_PAGES": (1, 4),
    "hermes.store.log.sqlite.tables.SHRINK_PAGES": (4, 16),
    "hermes.events.engine.owed.MAX_RANGES": (1, 3),
}


_REFUSING = 0.15
"""Share of the seeds in which a sink refuses everything for long."""

_DISK_SINKS: Sequence[Literal["sqlite", "file"]] = ("sqlite", "file")


@dataclass(frozen=True)
class ClientPlan:
    """One client. ``start`` and ``pause`` in seconds; ``patience``: how long it waits for an answer."""

    number: int
    start: float
    requests: int
    pause: float
    plain: bool
    """All its requests look alike, as those of most clients do."""
    pipelined: int
    attempts: int
    patience: float
    ack: str | None
    weather: Weather
    cut: float
    """Share of its connections that are cut."""
    vanishes: float
    """Share of its requests in the middle of which it loses its power, and comes back later."""
    slow: float
    """Share of its requests that it sends in parts, with pauses."""
    half_closes: float
    """Share of its requests after which it says that it sends no more, and waits for the answer."""


@dataclass(frozen=True)
class Plan:
    """All that happens by intention. Each life of the service gets the next of the ``settings``, in turn."""

    seed: int
    settings: Sequence[Chosen]
    sinks: Sequence[SinkPlan]
    clients: Sequence[ClientPlan]
    timetable: Sequence[Fault]
    cure: bool
    """In the end no sink refuses anything any more, and all dead letters are sent again."""
    disk_latency: float
    """Seconds that a sync or a read takes, about."""
    bounds: Mapping[str, int]
    """Bounds inside of Hermes that are made small, so that a short run reaches them."""

    def random(self, part: str) -> Random:
        """The chance of one part of the world, which no other part uses up."""
        return Random(f"{self.seed}/{part}")

    def __str__(self) -> str:
        lines = [f"settings {_describe(settings)}" for settings in self.settings]
        lines.append(f"bounds {' '.join(f'{name}={value}' for name, value in self.bounds.items())}")
        lines += map(str, self.sinks)
        lines += map(str, self.clients)
        lines += [f"{fault.at:8.3f}  {fault}" for fault in self.timetable]
        return "\n".join(lines)


def make_plan(seed: int) -> Plan:
    """The plan of a seed."""
    chance = Random(f"{seed}/plan")
    duration = chance.uniform(2, 15)
    first, sinks = _make_settings(chance), _make_sinks(chance)
    disk_sinks = _make_disk_sinks(chance)
    timetable = make_timetable(chance, duration, len(sinks), [file for sink in disk_sinks for file in FILES[sink.kind]])
    sinks += disk_sinks
    if len(sinks) > 1 and chance.random() < 0.4:
        first, sinks, outages = _crowd(chance, first, sinks, duration)
        timetable = sorted([*timetable, *outages], key=lambda fault: fault.at)
    refusing = Random(f"{seed}/refusing")  # its own, so that other seeds stay as they are
    if refusing.random() < _REFUSING:
        first, sinks[0], refusal = _refuse(refusing, first, sinks[0], duration)
        timetable = sorted([*timetable, refusal], key=lambda fault: fault.at)
    return Plan(
        seed,
        [first, _change_settings(chance, first)],
        sinks,
        [_make_client(chance, number, duration) for number in range(chance.randint(1, 5))],
        timetable,
        chance.random() < 0.5,
        chance.choice((0.0005, 0.005, 0.05)),
        {name: chance.choice(values) for name, values in _BOUNDS.items() if chance.random() < 0.4},
    )


def _make_settings(chance: Random) -> Chosen:
    return Chosen(
        admin_addr=None,
        durability="memory" if chance.random() < 0.1 else "disk",
        queue_size=chance.choice((MOST_EVENTS, 40, 200, 2000)),
        queue_bytes=chance.choice((4_000, 20_000, 1_000_000)),
        worker_count=chance.randint(1, 6),
        batch_size=chance.choice((1, 5, 20, 200)),
        flush_interval=chance.choice((0.005, 0.05, 0.3)),
        backpressure_mode=chance.choice(("strict", "block")),
        shutdown_timeout=chance.choice((1.0, 5.0, 20.0)),
        journal_max_bytes=chance.choice((6_000, 30_000, 10**6, 10**6)),
        ack_timeout=chance.choice((0.3, 2.0, 10.0)),
        max_connections=chance.choice((10, 50)),
        header_timeout=2.0,
        body_timeout=3.0,
        idle_timeout=chance.choice((1.0, 10.0)),
        write_timeout=2.0,
    )


def _crowd(
    chance: Random, settings: Chosen, sinks: Sequence[SinkPlan], duration: float
) -> tuple[Chosen, list[SinkPlan], list[SinkFault]]:
    """Sinks that nobody waits for are down for long, and neither memory nor the journal has room for what they miss."""
    settings = settings.but(durability="disk", queue_size=MOST_EVENTS, journal_max_bytes=chance.choice((3_000, 8_000)))
    crowded = [
        replace(sink, delivery=structs.replace(sink.delivery, required=sink is sinks[0]), max_batch=(4,))
        for sink in sinks
    ]
    outages = [
        SinkFault(chance.uniform(0, 1), duration, number, Mood.DOWN)
        for number, sink in enumerate(sinks)
        if number and sink.kind == "machine"
    ]
    return settings, crowded, outages


def _refuse(chance: Random, settings: Chosen, sink: SinkPlan, duration: float) -> tuple[Chosen, SinkPlan, SinkFault]:
    """A sink refuses everything for long, and memory has no room for all that is held."""
    settings = settings.but(durability="disk", queue_size=chance.choice((MOST_EVENTS, 40)), journal_max_bytes=10**6)
    delivery = structs.replace(
        sink.delivery, refusal_rows=1, refusal_hold=chance.choice((1.0, 10.0, 60.0)), breaker_open=0.2
    )
    refusal = SinkFault(chance.uniform(0, duration / 3), duration, 0, Mood.REFUSES)
    return settings, replace(sink, delivery=delivery), refusal


def _change_settings(chance: Random, settings: Chosen) -> Chosen:
    """What an operator may make of them between two lives, or not."""
    if chance.random() < 0.6:
        return settings
    others = _make_settings(chance)
    return others.but(durability=settings.durability, journal_max_bytes=settings.journal_max_bytes)


def _describe(settings: Chosen) -> str:
    default = Chosen()
    return " ".join(f"{name}={value}" for name, value in settings.values.items() if value != getattr(default, name))


def _make_sinks(chance: Random) -> list[SinkPlan]:
    return [
        SinkPlan(
            name,
            DeliverySettings(
                required=chance.random() < 0.5,
                timeout=chance.choice((0.2, 1.0, 3.0)),
                retries=chance.randint(0, 4),
                backoff=chance.choice((0.01, 0.1)),
                max_backoff=chance.choice((0.2, 1.0)),
                breaker_failures=chance.randint(1, 4),
                breaker_open=chance.choice((0.2, 1.0, 3.0)),
                refusal_rows=chance.choice((1, 5, 30)),
                refusal_hold=chance.choice((0.0, 1.0, 10.0)),
                catch_up=chance.choice((1.0, 1.5, 3.0)),
                catch_up_floor=chance.choice((50, 1000, 50_000)),
                catch_up_order=chance.choice(("oldest", "interleaved")),
            ),
            max_batch=chance.choice(((1,), (4,), (30,), (1000,), (30, 4), (1, 1000))),
            concurrency=chance.choice((1, 1, 2, 4)),
            latency=chance.choice((0.001, 0.01, 0.05)),
            poisonous=chance.choice((0, 0, 7, 20)),
        )
        for name in ("alpha", "beta", "gamma")[: chance.choice((1, 2, 2, 3))]
    ]


def _make_disk_sinks(chance: Random) -> list[SinkPlan]:
    """Sinks of ours, whose files are on the disk of the service."""
    return [
        SinkPlan(
            kind,
            DeliverySettings(
                required=chance.random() < 0.5,
                timeout=chance.choice((0.2, 3.0)),
                retries=chance.randint(0, 4),
                backoff=0.01,
                max_backoff=0.2,
                breaker_failures=chance.randint(1, 4),
                breaker_open=chance.choice((0.2, 1.0)),
            ),
            max_batch=chance.choice(((1,), (4,), (1000,))),
            concurrency=1,
            latency=0.0,
            poisonous=0,
            kind=kind,
            settings=make_settings(
                kind,
                max_bytes=chance.choice((300, 3000, 10**6)),
                max_age=chance.choice((0.0, 0.5)),
                compress=chance.choice(("none", "gzip", "zstd")),
            ),
        )
        for kind in _DISK_SINKS
        if chance.random() < 0.35
    ]


def _make_client(chance: Random, number: int, duration: float) -> ClientPlan:
    trouble: dict[str, Any] = {"cut": 0.0, "vanishes": 0.0, "slow": 0.0, "half_closes": 0.0}
    for kind in trouble:
        if chance.random() < 0.4:
            trouble[kind] = chance.uniform(0.02, 0.4)
    requests = chance.choice((3, 10, 30))
    return ClientPlan(
        number,
        start=chance.uniform(0, duration / 3),
        requests=requests,
        pause=chance.choice((0.0, 0.02, duration / requests, duration / requests, duration / requests)),
        plain=chance.random() < 0.4,
        pipelined=chance.choice((1, 1, 1, 4, 20)),
        attempts=chance.choice((1, 4, 15)),
        patience=chance.choice((2.0, 5.0, 15.0)),
        ack=chance.choice((None, None, None, "accepted", "durable", "delivered", "mixed")),
        weather=Weather(
            latency=chance.choice((0.0, 0.001, 0.02)),
            jitter=chance.choice((0.0, 0.01, 0.2)),
            pieces=chance.choice((1, 2, 8)),
            window=chance.choice((200, 2**16)),
        ),
        **trouble,
    )
