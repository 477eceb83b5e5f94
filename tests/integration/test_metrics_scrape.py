"""The first scrape of a running service has every name and label of the specification, in both formats."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import trio

from hermes.base.errors import BatchRejected
from hermes.events.sink import DeliverySettings
from hermes.testing import ScriptedSink, unavailable
from tests.http_client import connect, event, post
from tests.integration.test_bad_input import until
from tests.observe.test_metrics import FORMATS, SPECIFIED, scrape, value
from tests.service import open_service

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("accept", FORMATS, ids=["text", "openmetrics"])
async def test_every_name_and_label_is_there_from_the_first_scrape_of_a_service(accept: str) -> None:
    async with open_service() as service:
        families = scrape(service.running.edges.metrics, accept)
    assert SPECIFIED.keys() <= families.keys()
    for name, (labels, kind) in SPECIFIED.items():
        family = families[name]
        assert family.type == kind, name
        assert family.documentation, name
        assert family.samples, name
        assert all(set(sample.labels) - {"le"} == labels for sample in family.samples), name


async def test_the_configured_types_and_the_main_route_are_there_with_zero() -> None:
    async with open_service(event_types=("a", "b")) as service:
        metrics = service.running.edges.metrics
    assert [value(metrics, "hermes_events_received_total", type=kind) for kind in "ab"] == [0, 0]
    assert value(metrics, "hermes_http_request_duration_seconds_count", route="/events", code="202") == 0


async def test_any_type_may_come_where_all_are_taken() -> None:
    async with open_service(event_types=("*",)) as service:
        assert not service.engine.aggregator.received


@pytest.mark.parametrize("target", [b"/events", b"http://test/events"], ids=["fast", "control"])
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "is-answered"])
async def test_a_request_of_either_lane_is_in_flight_until_its_answer_or_its_client_leaves(
    target: bytes, leaves: bool
) -> None:
    body = event("1")
    async with open_service() as service:

        def inflight() -> float:
            return value(service.running.edges.metrics, "hermes_inflight_requests")

        assert inflight() == 0
        async with connect(service) as client:
            head = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (target, len(body))
            await client.send(head, body[:-1])
            await until(lambda: inflight() == 1)
            if not leaves:
                assert (await client.ask(body[-1:])).status == 202
                await until(lambda: inflight() == 0)
        await until(lambda: inflight() == 0)


STAY_AT_ZERO = {
    "hermes_aggregates_dropped": "an event beyond all types",
    "hermes_connections_evicted": "more connections than MAX_CONNECTIONS",
    "hermes_connections_refused": "as many in the control lane",
    "hermes_events_dropped": "no journal: here it keeps the events of a stop",
    "hermes_journal_failed_commits": "a storage that fails",
    "hermes_journal_lost_events": "a damaged journal",
    "hermes_journal_lost_records": "a damaged journal",
    "hermes_journals_unowned": "the journal of another instance, in Postgres",
    "hermes_sink_held_events": "a sink that refuses everything",
    "hermes_sink_missing_events": "a bug of Hermes",
    "hermes_spans_exported": "a receiver of traces",
}
"""Families that need what this test does not have. Each other one is to move, or nobody feeds it."""


async def test_each_documented_metric_is_served_and_fed_and_there_is_no_other() -> None:
    reference = (ROOT / "docs/reference/metrics.md").read_text()
    documented = {name.removesuffix("_total") for name in re.findall(r"^\| `(hermes_\w+)", reference, re.M)}
    bad, held = BatchRejected({0: "bad"}), trio.Event()
    script = ScriptedSink.following(bad, bad, *unavailable(1), None, *unavailable(3), held)
    settings = {"dead_letters": 1, "traces_endpoint": "http://127.0.0.1:9", "traces_sample": 1.0}
    delivery = DeliverySettings(backoff=0.01, breaker_failures=3, breaker_open=0.05)
    async with open_service(script, delivery, shutdown_timeout=1.0, **settings) as service, connect(service) as client:
        metrics, loop_lag = service.running.edges.metrics, service.running.edges.loop_lag
        moved: set[str] = set()
        assert (await client.ask(post(b"{}"))).status == 400
        for number, writes in enumerate((1, 2, 4, 8)):  # each is a batch, and the last write of the script hangs
            assert (await client.ask(post(event(str(number))))).status == 202
            await script.wait_writes(writes)
        await client.send(b"POST /events HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\n")  # stays in flight
        await until(lambda: value(metrics, "hermes_inflight_requests") > 0 and loop_lag.seconds > 0)
        service.engine.intake.admission.admit(1, 1)
        moved = {family.name for family in metrics.collect() if any(sample.value for sample in family.samples)}
        service.engine.intake.admission.expel(1, 1, trio.current_time())
        held.set()
    ended = {family.name for family in metrics.collect() if any(sample.value for sample in family.samples)}
    served = {family.name for family in metrics.collect() if family.name.startswith("hermes_")}
    assert served == documented
    assert served - moved - ended == STAY_AT_ZERO.keys()
