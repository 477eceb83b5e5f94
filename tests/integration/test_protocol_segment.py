"""Segment's and RudderStack's own Python libraries against a running service."""

from __future__ import annotations

import gc
import json
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
import rudderstack.analytics.request as rudder_http
import segment.analytics.request as segment_http
import trio
from rudderstack.analytics.client import Client as RudderClient
from segment.analytics.client import Client as SegmentClient

from tests.http_client import connect, get
from tests.integration.test_http_lanes import connect2
from tests.service import Service, open_service

ANY: dict[str, Any] = {"event_types": ("*",), "api_keys": ("the-write-key",)}


class Refused(NamedTuple):
    """What a library tells its application."""

    status: int
    code: str
    message: str
    retry_after: int | None


async def call(service: Service, library: Any, use: Callable[[Any], object], **options: Any) -> Refused | None:
    """What an application does with a library, on a thread, up to the first error."""

    def run() -> Refused | None:
        host = f"http://{service.host}:{service.port}"
        try:
            use(library(options.pop("write_key", "the-write-key"), host=host, sync_mode=True, timeout=10, **options))
        except segment_http.APIError as error:
            return Refused(error.status, error.code, error.message, segment_http.parse_retry_after(error.response))
        except rudder_http.APIError as error:
            return Refused(error.status, error.code, error.message, None)
        finally:
            segment_http._session.close()  # each library keeps one for its process
            rudder_http._session.close()
        return None

    told = await trio.to_thread.run_sync(run)
    gc.collect()  # an error of these libraries keeps its connection open, in a cycle
    return told


@pytest.mark.parametrize(("compress", "durability"), [(False, "memory"), (True, "disk")])
@pytest.mark.parametrize("library", [SegmentClient, RudderClient])
async def test_what_the_libraries_send_is_stored(library: Any, compress: bool, durability: str) -> None:
    happened = datetime(2024, 5, 5, 10, 11, 12, tzinfo=UTC)

    def use(client: Any) -> None:
        client.track("ann", "Order Completed", {"total": 12.5}, message_id="1", timestamp=happened)
        client.identify("ann", {"plan": "grüße"}, message_id="2")
        client.page(anonymous_id="visitor", name="Home", message_id="3")
        client.screen("ann", name="Home", message_id="4")
        client.group("ann", "team", message_id="5")
        client.alias("visitor", "ann", message_id="6")

    async with open_service(durability=durability, **ANY) as service:
        assert await call(service, library, use, gzip=compress) is None
        await service.sink.wait_stored(6)
        stored = service.sink.stored
    assert [each.id for each in stored] == list("123456")
    assert [each.type for each in stored] == ["order_completed", "identify", "page", "screen", "group", "alias"]
    assert [each.user_id for each in stored] == ["ann", "ann", "visitor", "ann", "ann", "ann"]
    assert abs(stored[0].timestamp - happened.timestamp()) < 60  # corrected by the time that the request took
    payloads = [json.loads(bytes(each.payload)) for each in stored]
    assert payloads[0]["properties"] == {"total": 12.5}
    assert "grüße" in str(payloads[1])
    assert all(payload["context"]["library"]["version"] for payload in payloads)
    assert all(b"the-write-key" not in bytes(each.payload) for each in stored)


async def test_a_library_tells_its_application_what_is_wrong() -> None:
    def use(client: Any) -> None:
        client.track("ann", "Order Completed")

    async with open_service(event_types=("song_played",), api_keys=("the-write-key",)) as service:
        for library in (SegmentClient, RudderClient):
            # A message that is not valid is no error of the request, which the library would repeat.
            assert await call(service, library, use) is None
            refused = await call(service, library, use, write_key="wrong")
            assert refused is not None
            assert (refused.status, refused.code) == (401, "unauthorized")
            assert "is none that this service takes" in refused.message


async def test_a_library_hears_when_to_come_again() -> None:
    async with open_service(queue_size=1, durability="memory", **ANY) as service:
        service.sink.stall()
        refused = await call(service, SegmentClient, lambda client: [client.track("ann", "a") for _ in range(3)])
        assert refused is not None
        assert refused.status == 503
        assert refused.retry_after is not None
        assert refused.retry_after >= 1
        service.sink.resume()


async def test_a_pixel_is_a_message_and_settings_are_served() -> None:
    message = b'{"event":"a?>b","messageId":"1","userId":"ann","writeKey":"the-write-key"}'
    data = b64encode(message)
    async with open_service(**ANY, cors_origins=("https://shop.example",)) as service, connect(service) as client:
        origin = b"Origin: https://shop.example"
        for kind, sent, status in (
            (b"track", data, 200),
            (b"track.gif", data.replace(b"+", b"-").replace(b"/", b"_").rstrip(b"="), 200),
            (b"track", b64encode(b'{"writeKey":"the-write-key"}'), 200),
            (b"track", b64encode(message.replace(b"the-", b"a-")), 401),
            (b"track", b"%3F", 400),
            (b"other", data, 404),
        ):
            answer = await client.ask(get(b"/v1/pixel/%b?data=%b" % (kind, sent), origin))
            assert answer.status == status, answer.body
            if status == 200:
                assert (answer.headers["content-type"], answer.body[:6]) == ("image/gif", b"GIF89a")
                assert answer.headers["cache-control"] == "no-store"
                assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        for kind, query, status in (
            (
                b"track",
                b"writeKey=the-write-key&messageId=2&anonymousId=a&event=Mail%20Opened&properties.of.it=may",
                200,
            ),
            (b"page", b"writeKey=the-write-key&messageId=3&userId=ann&name=Home&name=Other&x=1&x.y=2", 200),
            (b"page", b"writeKey=the-write-key&" + b"a." * 2_000 + b"b=1", 200),
            (b"page", b"writeKey=another&userId=ann", 401),
            (b"page", b"", 401),
            (b"other", b"writeKey=the-write-key&userId=ann", 404),
        ):
            answer = await client.ask(get(b"/pixel/v1/%b?%b" % (kind, query), origin))
            assert answer.status == status, answer.body
            assert status != 200 or answer.body[:6] == b"GIF89a"
        await service.sink.wait_stored(4)
        assert [each.id for each in service.sink.stored] == ["1", "1", "2", "3"]
        assert [each.type for each in service.sink.stored[2:]] == ["mail_opened", "page"]
        opened, page = [json.loads(bytes(each.payload)) for each in service.sink.stored[2:]]
        assert opened["properties"] == {"of": {"it": "may"}}
        assert (page["name"], page["x"]) == ("Home", {"y": "2"})
        assert all(b"the-write-key" not in bytes(each.payload) for each in service.sink.stored)
        for path in (b"/sourceConfig?writeKey=x", b"/sourceConfig/?p=web"):
            answer = await client.ask(get(path, origin))
            assert answer.headers["access-control-allow-origin"] == "https://shop.example"
            source = answer.json["source"]  # what `isValidSourceConfig` of RudderStack's browser library looks at
            assert (source["enabled"], source["destinations"]) == (True, [])
            assert source["id"]
            assert isinstance(source["config"], dict)


async def test_every_path_answers_over_http_2_as_well() -> None:
    message = {"event": "a", "userId": "ann", "writeKey": "the-write-key"}
    async with open_service(**ANY) as service, connect2(service) as client:
        for number, path in enumerate(("track", "t", "identify", "i", "page", "p", "screen", "s", "group", "g", "a")):
            body = json.dumps(message | {"messageId": str(number)}).encode()
            answer = await client.ask("POST", f"/v1/{path}", body, content_type="text/plain")
            assert (answer.status, answer.json) == (200, {"success": True})
        for path in ("/v1/batch", "/v1/import", "/v1/b", "/v1/m", "/beacon/v1/batch", "//v1//batch/"):
            answer = await client.ask("POST", path, b'{"batch":[],"writeKey":"the-write-key"}')
            assert (answer.status, answer.json) == (200, {"success": True})
        assert (await client.ask("POST", "/v1/batch", b'{"batch":[]}')).status == 401
        assert (await client.ask("POST", "/v1/other", b"{}")).status == 404
        await service.sink.wait_stored(11)
