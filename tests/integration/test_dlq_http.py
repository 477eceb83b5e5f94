"""The dead letters of a running service over real HTTP, replayed through its own deliveries."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from hermes import BatchRejected, SinkUnavailable
from hermes.events.sink import DeliverySettings
from hermes.testing import ScriptedSink
from tests.integration.program import events
from tests.service import Service, open_service

DELIVERED = {"Hermes-Ack": "delivered"}


@asynccontextmanager
async def refused(sink: ScriptedSink, **settings: Any) -> AsyncIterator[tuple[Service, httpx.AsyncClient]]:
    """A service whose sink has just refused events 1 and 3 of five."""
    sink.script.append(BatchRejected({1: "22003 overflow", 3: "23514 check"}))
    delivery = DeliverySettings(backoff=0.01, breaker_failures=1)
    async with (
        open_service(sink, delivery, **settings) as service,
        httpx.AsyncClient(base_url=service.admin_url) as client,
    ):
        answer = await client.post(f"{service.url}/events", json=events(5, "event"), headers=DELIVERED)
        assert answer.json()["sinks"]["scripted"]["dead_lettered"] == 2
        yield service, client


async def test_what_a_sink_refused_can_be_seen_replayed_and_is_in_the_books() -> None:
    sink = ScriptedSink()
    async with refused(sink) as (_, client):
        found = (await client.get("/dead-letters", params={"since": "1h", "reason": "overflow"})).json()
        assert [(letter["event"]["id"], letter["sink"]) for letter in found["letters"]] == [("event-1", "scripted")]
        assert (await client.get("/dead-letters/1")).json() == found["letters"][0]

        sink.script.append(BatchRejected({1: "still no"}))
        answer = await client.post("/dead-letters/replay")
        assert (answer.status_code, answer.json()["delivered"], answer.json()["refused"]) == (200, 1, 1)
        (letter,) = (await client.get("/dead-letters")).json()["letters"]
        assert (letter["event"]["id"], letter["reason"], letter["attempts"]) == ("event-3", "still no", 2)

        (account,) = (await client.get("/debug/accounting")).json()["sinks"]
        assert account["delivered"] == 4
        outcomes = ("delivered", "dead_lettered", "spilled", "in_flight")
        assert account["accepted"] == sum(account[name] for name in outcomes) + sum(account["dropped"].values())

        answer = await client.request("DELETE", "/dead-letters", params={"all": "true"})
        assert answer.json()["removed"] == 1
    assert [event.id for event in sink.stored] == ["event-0", "event-2", "event-4", "event-1"]


async def test_a_replay_does_not_reach_a_sink_whose_breaker_is_open() -> None:
    sink = ScriptedSink()
    async with refused(sink) as (_, client):
        sink.script.append(SinkUnavailable("down"))
        first = (await client.post("/dead-letters/replay")).json()
        second = (await client.post("/dead-letters/replay")).json()
        assert [each["sinks"][0]["stopped"] for each in (first, second)] == ["down", "the circuit breaker is open"]
        assert second["left"] == 2
        assert len(sink.writes) == 2
        assert (await client.get("/dead-letters")).json()["total"] == 2


async def test_payloads_go_out_as_they_came_in() -> None:
    sink = ScriptedSink.following(BatchRejected({0: "no"}))
    body = json.dumps(events(1, "event", payload=0)[0]).replace('"payload": 0', '"payload": { "n": 1.50e400 }')
    async with (
        open_service(sink) as service,
        httpx.AsyncClient(base_url=service.admin_url) as client,
    ):
        await client.post(f"{service.url}/events", content=body, headers=DELIVERED)
        assert b'"payload":{ "n": 1.50e400 }' in (await client.get("/dead-letters/1")).content


async def test_letters_on_disk_are_there_after_a_restart(tmp_path: Path) -> None:
    async with refused(ScriptedSink(), durability="disk", hermes_data_dir=tmp_path):
        pass
    sink = ScriptedSink()
    async with (
        open_service(sink, durability="disk", hermes_data_dir=tmp_path) as service,
        httpx.AsyncClient(base_url=service.admin_url) as client,
    ):
        assert (await client.post("/dead-letters/replay")).json()["delivered"] == 2
    assert [event.id for event in sink.stored] == ["event-1", "event-3"]
