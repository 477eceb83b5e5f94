"""The first scrape of a running service has every name and label of the specification, in both formats."""

from __future__ import annotations

import pytest

from tests.http_client import connect, event
from tests.integration.test_bad_input import until
from tests.service import open_service
from tests.test_metrics import FORMATS, SPECIFIED, scrape, value


@pytest.mark.parametrize("accept", FORMATS, ids=["text", "openmetrics"])
async def test_every_name_and_label_is_there_from_the_first_scrape_of_a_service(accept: str) -> None:
    async with open_service() as service:
        families = scrape(service.running.metrics, accept)
    assert SPECIFIED.keys() <= families.keys()
    for name, (labels, kind) in SPECIFIED.items():
        family = families[name]
        assert family.type == kind, name
        assert family.documentation, name
        assert family.samples, name
        assert all(set(sample.labels) - {"le"} == labels for sample in family.samples), name


async def test_the_configured_types_and_the_main_route_are_there_with_zero() -> None:
    async with open_service(event_types=("a", "b")) as service:
        metrics = service.running.metrics
    assert [value(metrics, "hermes_events_received_total", type=kind) for kind in "ab"] == [0, 0]
    assert value(metrics, "hermes_http_request_duration_seconds_count", route="/events", code="202") == 0


async def test_any_type_may_come_where_all_are_taken() -> None:
    async with open_service(event_types=("*",)) as service:
        assert not service.running.metrics.received


@pytest.mark.parametrize("target", [b"/events", b"http://test/events"], ids=["fast", "control"])
@pytest.mark.parametrize("leaves", [True, False], ids=["leaves", "is-answered"])
async def test_a_request_of_either_lane_is_in_flight_until_its_answer_or_its_client_leaves(
    target: bytes, leaves: bool
) -> None:
    body = event("1")
    async with open_service() as service:
        inflight = service.running.metrics.inflight_requests
        assert inflight() == 0
        async with connect(service) as client:
            head = b"POST %b HTTP/1.1\r\nHost: test\r\nContent-Length: %d\r\n\r\n" % (target, len(body))
            await client.send(head, body[:-1])
            await until(lambda: inflight() == 1)
            if not leaves:
                assert (await client.ask(body[-1:])).status == 202
                await until(lambda: inflight() == 0)
        await until(lambda: inflight() == 0)
