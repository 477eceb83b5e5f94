"""The CloudEvents SDK against a running service: what it sends in each mode is stored, and it can read it back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import trio
from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_structured_event,
    to_binary_event,
    to_structured_event,
)
from cloudevents.core.v1.event import CloudEvent

from tests.http_client import connect
from tests.integration.test_bad_input import BOTH_WAYS
from tests.integration.test_http_lanes import connect2
from tests.service import Service, open_service

ANY: dict[str, Any] = {"event_types": ("*",)}


def make(name: str, data: Any = None, **attributes: Any) -> CloudEvent:
    fixed = {"id": name, "source": "https://shop.example/orders", "type": "com.example.order", "specversion": "1.0"}
    return CloudEvent({**fixed, "time": datetime(2024, 5, 5, 10, 11, 12, tzinfo=UTC), **attributes}, data)


async def send(service: Service, message: HTTPMessage, **headers: str) -> httpx.Response:
    """Send what the SDK made, with a client of its own, on a thread."""
    url = f"http://{service.host}:{service.port}/events"

    def post() -> httpx.Response:
        with httpx.Client(trust_env=False) as client:
            return client.post(url, content=message.body, headers={**message.headers, **headers})

    return await trio.to_thread.run_sync(post)


@BOTH_WAYS
@pytest.mark.parametrize("encode", [to_binary_event, to_structured_event])
async def test_what_the_sdk_sends_is_stored_and_read_back_by_it(encode: Any, durability: str) -> None:
    sent = [
        make("1", {"total": 12.5, "note": "grüße"}, subject="ann", datacontenttype="application/json"),
        make("2", "plain text", datacontenttype="text/plain", extension="a b % €"),
        make("3", b"\x89\xff", datacontenttype="image/png"),
        make("4"),
    ]
    async with open_service(durability=durability, **ANY) as service:
        for each in sent:
            answer = await send(service, encode(each))
            assert (answer.status_code, answer.json()) == (202, {"accepted": 1})
        await service.sink.wait_stored(len(sent))
        stored = service.sink.stored
    assert [each.id for each in stored] == [f"https://shop.example/orders {n}" for n in (1, 2, 3, 4)]
    assert [each.user_id for each in stored] == ["ann", *["https://shop.example/orders"] * 3]
    assert {each.timestamp for each in stored} == {1714903872}
    for event, original in zip(stored, sent, strict=True):
        read = from_structured_event(
            HTTPMessage({"content-type": "application/cloudevents+json"}, bytes(event.payload))
        )
        assert read.get_attributes() == original.get_attributes()
        assert read.get_data() == original.get_data()


async def test_a_batch_of_the_sdks_structured_events_is_taken_over_http_2_as_well() -> None:
    bodies = [to_structured_event(make(str(n), {"n": n})).body for n in range(3)]
    batch = b"[" + b",".join(bodies) + b"]"
    async with open_service(**ANY) as service:
        answer = await send(service, HTTPMessage({"content-type": "application/cloudevents-batch+json"}, batch))
        assert (answer.status_code, answer.json()) == (202, {"accepted": 3})
        async with connect2(service) as client:
            again = await client.ask("POST", "/events", batch, content_type="application/cloudevents-batch+json")
            assert (again.status, again.json) == (202, {"accepted": 3})
            one = to_binary_event(make("binary", {"n": 1}, extension="a €"))
            answered = await client.start("POST", "/events", one.body, **{k.lower(): v for k, v in one.headers.items()})
            assert (await client.answer(answered)).status == 202
        await service.sink.wait_stored(7)
        stored = service.sink.stored
    assert [each.id for each in stored[:3]] == [each.id for each in stored[3:6]]
    assert json.loads(bytes(stored[6].payload))["extension"] == "a €"


async def test_a_page_of_another_origin_may_send_any_attribute() -> None:
    async with open_service(cors_origins=("https://shop.example",), **ANY) as service:
        origin = {"Origin": "https://shop.example"}
        answer = await send(service, to_binary_event(make("1", {"n": 1})), **origin)
        assert answer.status_code == 202
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        for path in (b"/events", b"/v1/batch", b"/v1/logs"):
            async with connect(service) as client:
                asked = await client.ask(
                    b"OPTIONS %b HTTP/1.1\r\nHost: test\r\nOrigin: https://shop.example\r\n"
                    b"Access-Control-Request-Method: POST\r\n"
                    b"Access-Control-Request-Headers: ce-id, ce-any\r\n\r\n" % path
                )
                assert asked.status == 204
                assert asked.headers["access-control-allow-headers"] == "ce-id, ce-any"


async def test_a_full_queue_is_503_with_a_time_to_come_again() -> None:
    async with open_service(queue_size=1, durability="memory", **ANY) as service:
        service.sink.stall()
        answers = [await send(service, to_binary_event(make(str(n)))) for n in range(3)]
        assert answers[0].status_code == 202
        assert answers[-1].status_code == 503
        assert int(answers[-1].headers["retry-after"]) >= 1
        service.sink.resume()


@pytest.mark.parametrize(
    ("sender", "allowed"),
    [(b"eventgrid.azure.net", "eventgrid.azure.net"), (b"[::1]:80", "[::1]:80"), (b"a b; c", "*")],
)
async def test_a_service_that_asks_whether_it_may_deliver_hears_yes(sender: bytes, allowed: str) -> None:
    async with open_service(**ANY, api_keys=("one",)) as service, connect(service) as client:
        head = b"OPTIONS %b HTTP/1.1\r\nHost: test\r\n%b\r\n"
        asked = b"WebHook-Request-Origin: %b\r\nWebHook-Request-Rate: 120\r\n" % sender
        answer = await client.ask(head % (b"/events", asked))
        assert (answer.status, answer.headers["webhook-allowed-origin"]) == (200, allowed)
        assert (answer.headers["webhook-allowed-rate"], answer.headers["allow"]) == ("*", "POST, OPTIONS")
        for target, lines in ((b"/events", b""), (b"/v1/batch", asked)):
            answer = await client.ask(head % (target, lines))
            assert answer.status == 204
            assert "webhook-allowed-origin" not in answer.headers
