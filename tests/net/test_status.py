"""The status of a service: its own facts beside those of each part, and the quantiles of its requests."""

from __future__ import annotations

from collections import defaultdict

import msgspec

from hermes.net.status import Facts, StatusBoard
from hermes.observe.history import quantile
from hermes.observe.metrics import SECONDS, Histogram
from hermes.part import PartStatus

WALL = 1_700_000_000.0


class Toys(msgspec.Struct):
    ticks: int


class Watched:
    """A board over one part, which counts the seconds; ``durations`` are those of requests, by route and status."""

    def __init__(self) -> None:
        self.durations: defaultdict[tuple[str, int], Histogram] = defaultdict(lambda: Histogram(SECONDS))
        self.draining = False
        self.now = 0.0
        facts = Facts(
            version="1.2.3",
            durability="memory",
            started=WALL,
            durations=self.durations,
            routes=frozenset({"/events"}),
            connections=lambda: 3,
            loop_lag=lambda: 0.25,
            draining=lambda: self.draining,
            memory=lambda: None,
        )
        ticks: list[float] = []
        toys = PartStatus(Toys, lambda _now, _wall: Toys(len(ticks)), ticks.append)
        self.board = StatusBoard(facts, {"toys": toys}, self.now)

    def pass_seconds(self, count: int) -> None:
        for _ in range(count):
            self.now += 1
            self.board.tick(self.now)


def test_the_facts_of_the_service_stand_beside_the_status_of_each_part() -> None:
    watched = Watched()
    watched.pass_seconds(2)
    watched.draining = True
    shown = msgspec.json.decode(msgspec.json.encode(watched.board.snapshot(watched.now, WALL + 2)))
    assert shown == {
        "version": "1.2.3",
        "now": WALL + 2,
        "started": WALL,
        "durability": "memory",
        "draining": True,
        "requests": {"count": 0, "p50": None, "p99": None},
        "connections": 3,
        "loop_lag": 0.25,
        "memory": None,
        "parts": {"toys": {"ticks": 2}},
    }
    assert watched.board.kinds == {"toys": Toys}


def test_a_quantile_lies_within_its_bucket() -> None:
    bounds = (1.0, 2.0, 4.0)
    assert quantile(0.5, bounds, [0, 0, 0, 0]) is None
    assert quantile(0.5, bounds, [10, 10, 10, 10]) == 0.5
    assert quantile(0.5, bounds, [0, 10, 10, 10]) == 1.5
    assert quantile(0.99, bounds, [0, 50, 99, 100]) == 4.0
    assert quantile(0.5, bounds, [0, 0, 0, 10]) == 4.0


def test_requests_are_those_of_the_data_routes_in_the_last_minute() -> None:
    watched = Watched()
    watched.durations["/events", 202].observe(10.0)
    watched.pass_seconds(70)
    watched.durations["/events", 202].observe(0.0009, 98)
    watched.durations["/events", 503].observe(0.2, 2)
    watched.durations["/metrics", 200].observe(5.0)
    now = watched.board.snapshot(watched.now, WALL).requests
    assert now.count == 100
    assert now.p50 is not None
    assert 0.0005 < now.p50 < 0.001
    assert now.p99 is not None
    assert 0.1 < now.p99 <= 0.25
