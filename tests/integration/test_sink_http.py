"""The http sink against a real receiver: the contract, signatures, refusals, pauses, broken servers, another Hermes."""

from __future__ import annotations

import base64
import hmac
import shutil
import ssl
import subprocess
import time
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trio
from hermes_sinks.http import HttpSettings, HttpSink, open_http
from trio.testing import MockClock

from hermes import BatchRejected, Event, SinkUnavailable, Storage
from hermes.events.sink import Sink, SinkPlugin
from hermes.net.outgoing import MOST_PAUSE
from hermes.testing import check_sink, make_batch, make_event, make_events
from tests.http_client import connect, event, post
from tests.needs import lacks
from tests.servers.receiver import Answer, Received, Receiver, Reply, open_receiver
from tests.service import open_service
from tests.sinks.configured import configure_sinks

KEYS = ["whsec_" + base64.b64encode(bytes(range(n, n + 32))).decode() for n in (1, 2)]

HALF_A_PAIR = "no valid Unicode in id"


def opened(url: str, **settings: Any) -> AbstractAsyncContextManager[HttpSink]:
    return open_http(HttpSettings(url=url, **settings), Storage())


def ids(receiver: Receiver) -> list[list[str]]:
    return [request.ids for request in receiver.requests]


async def unavailable(sink: Sink, events: Sequence[Event] | int = 1) -> SinkUnavailable:
    with pytest.raises(SinkUnavailable) as raised:
        await sink.write(make_batch(events))
    return raised.value


async def refused(sink: Sink, events: Sequence[Event]) -> dict[int, str]:
    with pytest.raises(BatchRejected) as raised:
        await sink.write(make_batch(events))
    return raised.value.reasons


@pytest.mark.parametrize(
    "settings",
    [{"compress": "gzip"}, {"format": "ndjson", "compress": "zstd", "max_bytes": 9000, "secret": tuple(KEYS)}],
    ids=["an array, gzip", "lines, zstd, small requests, signed"],
)
async def test_it_conforms(settings: dict[str, Any]) -> None:
    async with open_receiver() as receiver:

        async def read_back() -> list[Event]:
            return [event for request in receiver.requests for event in request.events]

        # A line break in a payload becomes a space.
        await check_sink(lambda: opened(receiver.url, **settings), read_back, exact_payload=False)


async def test_requests_are_signed_with_every_key_over_what_is_sent() -> None:
    async with open_receiver() as receiver, opened(receiver.url, secret=tuple(KEYS), compress="gzip") as sink:
        await sink.write(make_batch(3))
        (request,) = receiver.requests
    signed = f"{request.headers['webhook-id']}.{request.headers['webhook-timestamp']}.".encode() + request.raw
    expected = []
    for key in KEYS:
        digest = hmac.digest(base64.b64decode(key.removeprefix("whsec_")), signed, "sha256")
        expected.append("v1," + base64.b64encode(digest).decode())
    assert request.headers["webhook-signature"].split(" ") == expected
    assert abs(time.time() - int(request.headers["webhook-timestamp"])) < 30


async def test_the_same_events_have_the_same_id_and_others_another() -> None:
    async with open_receiver() as receiver:
        for compress in ("none", "zstd"):
            async with opened(receiver.url, compress=compress) as sink:
                for batch in (make_batch(3), make_batch(3), make_batch(2)):
                    await sink.write(batch)
        found = [request.headers["webhook-id"] for request in receiver.requests]
    assert found[0] == found[1] == found[3] == found[4] != found[2]
    assert "webhook-signature" not in receiver.requests[0].headers


async def test_headers_and_credentials_go_along_and_the_url_stays_whole() -> None:
    async with open_receiver("/in/put?key=1&a=%2F") as receiver:
        url = receiver.url.replace("//", "//user:p%40ss@")
        async with opened(url, headers="X-API-Key: k, X-Other: o") as sink:
            await sink.write(make_batch(1))
        (request,) = receiver.requests
    assert request.path == "/in/put?key=1&a=%2F"
    assert (request.headers["x-api-key"], request.headers["x-other"]) == ("k", "o")
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"user:p@ss").decode()
    assert request.headers["user-agent"].startswith("Hermes/")


async def test_one_connection_serves_many_batches() -> None:
    async with open_receiver() as receiver, opened(receiver.url) as sink:
        for _ in range(20):
            await sink.write(make_batch(5))
        assert (len(receiver.requests), receiver.connections) == (20, 1)


async def test_an_empty_batch_sends_nothing() -> None:
    async with open_receiver() as receiver, opened(receiver.url) as sink:
        await sink.write(make_batch([]))
        assert not receiver.requests


async def test_requests_keep_to_max_bytes_and_a_larger_event_goes_alone() -> None:
    events = [make_event(f"e{n}", payload='{"v": "' + "x" * size + '"}') for n, size in enumerate([9, 9, 900, 9, 9])]
    async with open_receiver() as receiver, opened(receiver.url, max_bytes=400) as sink:
        await sink.write(make_batch(events))
    assert ids(receiver) == [["e0", "e1"], ["e2"], ["e3", "e4"]]


def refuse_those_with(bad: Sequence[str], status: int) -> Answer:
    return lambda request: (
        Reply(status, body=f"no \x07 thanks to {request.ids[0]}".encode())
        if set(bad) & set(request.ids)
        else Reply(202)
    )


@pytest.mark.parametrize("status", [400, 422])
async def test_a_bad_event_among_many_is_found(status: int) -> None:
    events = make_events(300)
    async with open_receiver() as receiver, opened(receiver.url) as sink:
        receiver.answer = refuse_those_with(["event-17", "event-170"], status)
        reasons = await refused(sink, events)
        taken = [
            name for request in receiver.requests for name in request.ids if receiver.answer(request).status == 202
        ]
    assert reasons.keys() == {17, 170}
    assert all(reason.endswith(": no thanks to <id>") for reason in reasons.values())
    assert sorted(taken) == sorted(event.id for event in events if event.id not in ("event-17", "event-170"))


async def test_what_is_too_large_goes_in_halves_and_a_single_event_that_is_too_large_is_refused() -> None:
    events = [*make_events(40), make_event("large", payload='{"v": "' + "x" * 3000 + '"}'), make_event("last")]

    def answer(request: Received) -> Reply:
        return Reply(413) if len(request.raw) > 2000 else Reply(200)

    async with open_receiver() as receiver, opened(receiver.url) as sink:
        receiver.answer = answer
        reasons = await refused(sink, events)
        taken = {name for request in receiver.requests if len(request.raw) <= 2000 for name in request.ids}
    assert reasons.keys() == {40}
    assert "413" in reasons[40]
    assert taken == {event.id for event in events} - {"large"}


async def test_events_that_a_2xx_names_are_refused_and_nothing_is_sent_again() -> None:
    async with open_receiver() as receiver, opened(receiver.url) as sink:
        receiver.reply(202, {"accepted": 1, "rejected": [{"index": 1, "error": "not yours"}]})
        assert await refused(sink, [make_event("half \ud800"), *make_events(3)]) == {
            0: HALF_A_PAIR,
            2: "not yours",
        }
        assert ids(receiver) == [["event-0", "event-1", "event-2"]]


async def test_a_key_that_is_wrong_costs_no_event_and_is_told_with_the_host_alone() -> None:
    async with open_receiver("/secret-path") as receiver, opened(receiver.url + "?token=s3cret") as sink:
        receiver.reply(401, b"who are you?")
        error = await unavailable(sink, make_events(100))
        assert len(receiver.requests) == 1
    assert "it answered 401 Unauthorized (set or renew the credentials" in str(error)
    assert str(error).startswith("http://127.0.0.1:")
    assert "secret" not in str(error)
    assert "s3cret" not in str(error)


async def test_the_libraries_below_log_neither_urls_nor_headers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with open_receiver("/s3cret") as receiver:
        url = receiver.url.replace("//", "//user:s3cret@") + "?token=s3cret"
        async with opened(url, headers="X-API-Key: s3cret") as sink:
            await sink.write(make_batch(1))
    assert "s3cret" in receiver.requests[0].path
    assert not [record for record in caplog.records if record.name.startswith("http")]


async def test_a_redirect_is_not_followed() -> None:
    async with open_receiver() as receiver, opened(receiver.url) as sink:
        receiver.reply(307, location="https://elsewhere.example/s3cret")
        assert "to elsewhere.example; redirects are not followed" in str(await unavailable(sink))
        assert len(receiver.requests) == 1


async def test_retry_after_is_told_and_nothing_is_sent_before_its_time(mock_clock: MockClock) -> None:
    async with open_receiver() as receiver, opened(receiver.url) as sink:
        receiver.reply(429, retry_after="120")
        assert (await unavailable(sink)).retry_after == 120.0
        receiver.reply(200)
        mock_clock.jump(100)
        error = await unavailable(sink)
        assert error.retry_after == 20.0
        assert "asked for a pause" in str(error)
        assert len(receiver.requests) == 1
        mock_clock.jump(20)
        await sink.write(make_batch(1))
        assert len(receiver.requests) == 2


async def test_retry_after_as_a_date_is_read_and_a_pause_of_a_year_is_cut() -> None:
    async with open_receiver() as receiver:
        for pause, least, most in [(60, 50, 60), (365 * 86400, MOST_PAUSE, MOST_PAUSE)]:
            async with opened(receiver.url) as sink:
                receiver.reply(503, retry_after=formatdate(time.time() + pause, usegmt=True))
                found = (await unavailable(sink)).retry_after
                assert found is not None
                assert least <= found <= most


async def test_an_answer_without_end_is_read_to_its_bound_only() -> None:
    async with open_receiver() as receiver, opened(receiver.url) as sink:
        for status in (200, 500):
            receiver.answer = lambda _request, status=status: Reply(status, endless=True)  # type: ignore[misc]
            with trio.fail_after(5):
                if status == 200:
                    await sink.write(make_batch(1))
                else:
                    assert len(str(await unavailable(sink))) < 500


async def test_a_receiver_that_breaks_off_hangs_or_is_gone_is_unavailable_and_then_works_again() -> None:
    async with open_receiver() as receiver, opened(receiver.url, read_timeout=0.2) as sink:
        receiver.answer = lambda _request: Reply(cut=True)
        assert "RemoteProtocolError" in str(await unavailable(sink))
        receiver.answer = lambda _request: Reply(hang=True)
        assert str(await unavailable(sink)).endswith(": no answer in time")
        receiver.reply(204)
        await sink.write(make_batch(1))
        url = receiver.url
    async with opened(url) as sink:
        assert str(await unavailable(sink)).endswith(": no connection: connection refused")


async def test_a_host_that_does_not_exist_is_unavailable() -> None:
    async with opened("http://nowhere.invalid/") as sink:
        assert str(await unavailable(sink)).startswith("http://nowhere.invalid: no connection: ")


async def test_what_speaks_no_http_is_unavailable() -> None:
    async def babble(stream: trio.SocketStream) -> None:
        async with stream:
            request = b""
            while not request.endswith(b"]"):
                request += await stream.receive_some(65536)
            await stream.send_all(b"220 smtp.example ready\r\n")

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, babble, [listener])
        async with opened(f"http://127.0.0.1:{listener.socket.getsockname()[1]}/") as sink:
            assert "RemoteProtocolError" in str(await unavailable(sink))
        nursery.cancel_scope.cancel()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and its key."""
    if shutil.which("openssl") is None:
        lacks("there is no openssl")
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return cert, key


async def test_tls_is_checked_against_the_authority_that_is_named(certificate: tuple[Path, Path]) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*certificate)
    async with open_receiver(tls=server) as receiver:
        async with opened(receiver.url, ca_file=str(certificate[0])) as sink:
            await sink.write(make_batch(2))
        async with opened(receiver.url) as sink:
            assert "CERTIFICATE_VERIFY_FAILED" in str(await unavailable(sink))
        async with opened(receiver.url, tls_verify=False) as sink:
            await sink.write(make_batch(2))
        assert len(receiver.requests) == 2


class Forwarder:
    """What `open_service` takes for its sink: the installed http sink with these variables."""

    def __init__(self, variables: dict[str, str]) -> None:
        (self._configured,) = configure_sinks(["http"], variables)

    def plugin(self) -> SinkPlugin:
        configured = self._configured
        return SinkPlugin(open=lambda _none, service: configured.plugin.open(configured.settings, service))


@pytest.mark.parametrize("form", ["json", "ndjson"])
async def test_one_hermes_forwards_to_another_exactly(form: str) -> None:
    """The second knows fewer types: what it refuses are the first one's dead letters, and nothing is sent twice."""
    async with open_service(api_keys=("k",), event_types=("song_played",)) as second:
        url = f"http://{second.host}:{second.port}/events"
        headers = {"SINK_HTTP_URL": url, "SINK_HTTP_HEADERS": "X-API-Key: k", "SINK_HTTP_FORMAT": form}
        forwarder = Forwarder(headers)
        async with open_service(forwarder) as first:  # type: ignore[arg-type]
            others = [event("other", type="ad_clicked"), event("more", type="trip_started")]
            body = b"[" + b",".join([event("a"), others[0], event("b"), others[1], event("c")]) + b"]"
            async with connect(first) as client:
                # The answer comes when the sink is done: some events are its dead letters for good.
                assert (await client.ask(post(body, b"Hermes-Ack: delivered"))).status == 422
                assert (await client.ask(post(others[0], b"Hermes-Ack: delivered"))).status == 422
            with trio.fail_after(10):
                await second.sink.wait_stored(3)
            assert await first.stop()
            account = first.engine.deliveries[0].account()
    assert sorted(found.id for found in second.sink.stored) == ["a", "b", "c"]
    assert (account.delivered, account.dead_lettered) == (3, 3)
