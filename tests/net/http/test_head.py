"""Heads: what is read from one, which are remembered, and that the memory changes no answer."""

from __future__ import annotations

import gc
import tracemalloc

import pytest

from hermes.net.http.head import MAX_REMEMBERED_BYTES, BadHead, Head, Heads, Route
from hermes.net.http.response import Response, problem
from tests.net.http.kit import head


def heads(refusal: Response | None = None) -> Heads:
    route = Route("/events", lambda _: refusal, lambda _head, _body: Response(202), lambda _: b"", 1000)
    return Heads({("POST", "/events"): route})


def parse(*lines: bytes, first: bytes = b"POST /events HTTP/1.1") -> Head:
    return heads().parse(head(*lines, first=first))


def test_a_head_is_read() -> None:
    found = parse(b"Content-Length: 7", b"Content-Type: Application/JSON ; charset=utf-8", b"Content-Encoding: GZip")
    assert (found.method, found.path, found.content_length, found.chunked) == ("POST", "/events", 7, False)
    assert (found.media_type, found.coding) == ("application/json", "gzip")
    assert found.keep_alive
    assert found.refusal is None
    assert found.route is not None
    assert found.route.name == "/events"


def test_names_are_lower_case_and_repeated_headers_are_joined() -> None:
    found = parse(b"Content-Length: 2", b"X-Thing: a", b"x-THING: b")
    assert found.headers["x-thing"] == "a, b"


@pytest.mark.parametrize("target", [b"/events", b"/events?", b"/events?a=b&c"])
def test_a_query_does_not_change_the_route(target: bytes) -> None:
    found = parse(b"Content-Length: 2", first=b"POST %b HTTP/1.1" % target)
    assert found.route is not None
    assert found.query == target.partition(b"?")[2].decode()


@pytest.mark.parametrize("target", [b"/", b"/Events", b"/events/", b"//events", b"/%65vents", b"*", b"http://a/events"])
def test_any_other_path_is_for_the_control_lane(target: bytes) -> None:
    assert parse(b"Content-Length: 2", first=b"POST %b HTTP/1.1" % target).route is None


@pytest.mark.parametrize(
    "first",
    [
        b"GET http://[bad/",
        b"POST http://[/events",
        b"GET http://a:b/",
        b"GET http://a:99999/",
        b"GET http:///events",
        b"GET events",
        b"GET ?a=b",
        b"CONNECT [bad:1",
    ],
)
def test_a_target_without_one_of_the_forms_of_the_rfc_is_refused(first: bytes) -> None:
    with pytest.raises(BadHead) as raised:
        parse(first=first + b" HTTP/1.1")
    assert raised.value.response.status == 400


@pytest.mark.parametrize("first", [b"GET http://[::1]:80/x", b"GET https://a?b", b"OPTIONS *", b"CONNECT a:1"])
def test_a_target_in_any_form_of_the_rfc_is_for_the_control_lane(first: bytes) -> None:
    assert parse(first=first + b" HTTP/1.1").route is None


@pytest.mark.parametrize("method", [b"GET", b"PUT", b"OPTIONS", b"HEAD", b"DELETE"])
def test_any_other_method_is_for_the_control_lane(method: bytes) -> None:
    assert parse(first=method + b" /events HTTP/1.1").route is None


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        (b"abc-123", b"abc-123"),
        (b"x" * 128, b"x" * 128),
        (b"x" * 129, b""),
        (b"a b", b""),
        (b"", b""),
        (b"\xe9", b""),
        (b"a, b", b""),
        (b'"<script>"', b'"<script>"'),
    ],
)
def test_a_request_id_is_taken_if_it_can_be_echoed(given: bytes, taken: bytes) -> None:
    assert parse(b"Content-Length: 2", b"X-Request-Id: " + given).request_id == taken


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 2", b"X-Request-Id: mine"],
        [b"Content-Length: 2", b"Expect: 100-continue"],
        [b"Content-Length: 1001"],
        [b"Transfer-Encoding: chunked"],
        [],
        [b"Content-Length: 2", b"X-Long: " + b"x" * 6000],
    ],
    ids=["request-id", "expectation", "refusal", "chunked", "no-length", "long"],
)
def test_a_head_with_something_of_its_own_is_not_remembered(lines: list[bytes]) -> None:
    found = heads()
    found.parse(head(*lines))
    assert found.recall(head(*lines)) is None


def test_a_refused_head_is_not_remembered() -> None:
    found = heads(problem(401, "no"))
    assert found.parse(head(b"Content-Length: 2")).refusal is not None
    assert found.recall(head(b"Content-Length: 2")) is None


def test_a_usual_head_is_remembered_by_its_exact_bytes() -> None:
    found = heads()
    first = found.parse(head(b"Content-Length: 2"))
    assert found.recall(head(b"Content-Length: 2")) is first
    assert found.recall(head(b"Content-Length: 3")) is None
    assert found.recall(head(b"content-length: 2")) is None


@pytest.mark.parametrize(
    "more",
    [b"", b"x-longer: " + b"y" * 1500, b"\r\n".join(b"%x:" % n for n in range(30))],
    ids=["usual", "long", "many"],
)
def test_what_is_remembered_is_bounded_by_the_memory_that_it_takes(more: bytes) -> None:
    found = heads()
    lines = [b"Content-Length: 2", *([more] if more else [])]
    tracemalloc.start()
    try:
        for n in range(8_000):
            found.parse(head(*lines, b"X-N: %d" % n))
        gc.collect()
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 1.25 * MAX_REMEMBERED_BYTES
    assert found.recall(head(*lines, b"X-N: 7999")) is not None


def test_a_bad_head_says_what_is_wrong() -> None:
    for lines, words in (
        ([b"Content-Length: x"], "Content-Length"),
        ([b"Transfer-Encoding: gzip, chunked"], "Transfer-Encoding"),
        ([b"Host: again"], "Host"),
    ):
        with pytest.raises(BadHead, match=words) as caught:
            parse(*lines)
        assert caught.value.response.status == 400
        assert caught.value.response.close


# --- paths with parameters --------------------------------------------------------------------------------------------


def at(method: str, target: bytes, *lines: bytes) -> tuple[str, dict[str, str], Response | None]:
    """The name of the route that a request gets, its parameters and its refusal."""
    routes = {
        (method, path): Route(path, lambda _: None, lambda _head, _body: Response(200), lambda _: b"", 1000)
        for method, path in [
            ("GET", "/jobs/{id}"),
            ("DELETE", "/jobs/{id}"),
            ("GET", "/jobs/latest"),
            ("POST", "/jobs/{number:int}/runs/{run}"),
            ("POST", "/files/{name:path}"),
        ]
    }
    found = Heads(routes).parse(head(*lines, first=b"%b %b HTTP/1.1" % (method.encode(), target)))
    return found.route_name, dict(found.parameters), found.refusal


@pytest.mark.parametrize(
    ("method", "target", "route", "parameters"),
    [
        ("GET", b"/jobs/17", "/jobs/{id}", {"id": "17"}),
        ("DELETE", b"/jobs/a%20b%2Fc?x=1", "/jobs/{id}", {"id": "a b/c"}),
        ("GET", b"/jobs/latest", "/jobs/latest", {}),
        ("GET", b"/jobs/", "unreadable", {}),
        ("GET", b"/jobs/1/2", "unreadable", {}),
        ("POST", b"/jobs/7/runs/x", "/jobs/{number:int}/runs/{run}", {"number": "7", "run": "x"}),
        ("POST", b"/jobs/seven/runs/x", "unreadable", {}),
        ("POST", b"/files/a/b.txt", "/files/{name:path}", {"name": "a/b.txt"}),
        ("PUT", b"/jobs/17", "unreadable", {}),
    ],
)
def test_a_route_is_found_by_its_pattern(method: str, target: bytes, route: str, parameters: dict[str, str]) -> None:
    assert at(method, target, b"Content-Length: 0")[:2] == (route, parameters)


def test_a_request_that_reads_or_deletes_needs_no_length_and_another_does() -> None:
    assert at("GET", b"/jobs/1")[2] is None
    assert at("DELETE", b"/jobs/1")[2] is None
    refusal = at("POST", b"/files/a")[2]
    assert refusal is not None
    assert refusal.status == 411


def test_heads_with_parameters_are_not_remembered_for_each_may_come_once() -> None:
    route = Route("/jobs/{id}", lambda _: None, lambda _head, _body: Response(200), lambda _: b"", 1000)
    every = Heads({("GET", "/jobs/{id}"): route})
    data = head(first=b"GET /jobs/1 HTTP/1.1")
    every.parse(data)
    assert every.recall(data) is None
