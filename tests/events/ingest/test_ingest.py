"""The route ``POST /events``: every answer it has, keys, CORS, and that a 2xx names exactly what was taken."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
import zstandard

from hermes.net.http.keys import UNKNOWN, WANTED
from tests.net.http.kit import Answer, FakeIntake, Wire, event, head, post


def ask(wire: Wire, body: bytes, *lines: bytes) -> Answer:
    (answer,) = wire.feed(post(body, *lines))
    return answer


def problem(answer: Answer, status: int) -> Any:
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json["status"] == status
    return answer.json


@pytest.mark.parametrize(
    ("body", "lines", "count"),
    [
        (event("a"), [], 1),
        (b" \n" + event("a"), [], 1),
        (b"[%b]" % event("a"), [b"Content-Type: application/json"], 1),
        (b"[%b,%b]" % (event("a"), event("b")), [b"Content-Type: application/json; charset=utf-8"], 2),
        (event("a"), [b"Content-Type: application/x-www-form-urlencoded"], 1),
        (event("a") + b"\n\n" + event("b") + b"\n", [b"Content-Type: application/x-ndjson"], 2),
        (event("a") + b"\r\n" + event("b"), [b"Content-Type: application/jsonl"], 2),
        *[
            (b"\xef\xbb\xbf" + event("a") + b"\n" + event("b"), [b"Content-Type: " + kind], 2)
            for kind in (
                b"application/jsonlines",
                b"application/x-jsonlines; charset=utf-8",
                b"application/json-lines",
                b"application/x-jsonl",
                b"application/ndjson",
                b"application/x-ldjson",
                b"application/stream+json",
                b"Text/X-NDJSON",
            )
        ],
        (gzip.compress(event("a"), mtime=0), [b"Content-Encoding: gzip"], 1),
        (gzip.compress(event("a"), mtime=0), [b"Content-Encoding: X-GZIP"], 1),
        (zlib.compress(event("a")), [b"Content-Encoding: deflate"], 1),
        (zstandard.ZstdCompressor().compress(event("a")), [b"Content-Encoding: zstd"], 1),
        (event("a"), [b"Content-Encoding: identity"], 1),
        (event("ü"), [], 1),
    ],
)
def test_valid_events_are_202_with_their_count(body: bytes, lines: list[bytes], count: int) -> None:
    wire = Wire()
    answer = ask(wire, body, *lines)
    assert (answer.status, answer.json) == (202, {"accepted": count})
    assert answer.headers["content-type"] == "application/json"
    assert len(wire.intake.taken) == count
    assert not wire.rejected


@pytest.mark.parametrize(
    ("lines", "plain"),
    [
        ([], True),
        ([b"Content-Type: application/json"], True),
        ([b"Content-Type: application/x-www-form-urlencoded"], True),
        ([b"Content-Type: application/x-ndjson"], False),
        ([b"Content-Encoding: gzip"], False),
        ([b"Content-Encoding: "], True),
    ],
)
def test_only_json_without_a_coding_takes_the_short_way(lines: list[bytes], plain: bool) -> None:
    found = Wire().lane.heads.parse(head(b"Content-Length: 2", *lines))
    assert (found.state.one is not None) is plain


def test_one_large_event_is_decoded_in_turns_and_not_at_once() -> None:
    wire = Wire(max_body_bytes=10**6)
    large = event("a", payload={f"k{n}": n for n in range(15_000)})
    wire.connection.receive(post(large))
    assert (len(wire.workshop), wire.intake.taken) == (1, [])
    (answer,) = wire.feed(b"")
    assert (answer.status, wire.intake.ids, wire.intake.sizes) == (202, ["a"], [len(large)])


def test_the_size_that_admission_counts_is_that_of_the_decoded_body() -> None:
    wire = Wire()
    body = event("a", payload={"n": "x" * 5000})
    ask(wire, gzip.compress(body), b"Content-Encoding: gzip")
    assert wire.intake.sizes == [len(body)]


def test_some_invalid_is_202_with_each_of_them_and_the_others_are_taken() -> None:
    wire = Wire()
    answer = ask(wire, b"[%b,{},%b]" % (event("a"), event("b")))
    assert answer.status == 202
    assert answer.json["accepted"] == 2
    (rejected,) = answer.json["rejected"]
    assert rejected["index"] == 1
    assert "missing required field" in rejected["error"]
    assert wire.intake.ids == ["a", "b"]
    assert wire.rejected == {"invalid": 1}


def test_none_valid_is_400_with_each_of_them() -> None:
    wire = Wire()
    told = problem(ask(wire, b"[{},7]"), 400)
    assert [each["index"] for each in told["rejected"]] == [0, 1]
    assert wire.rejected == {"invalid": 2}
    assert wire.intake.taken == []


@pytest.mark.parametrize(
    ("body", "lines", "status", "reason", "words"),
    [
        (b"{", [], 400, "malformed", "byte 1"),
        (b"", [], 400, "malformed", "the body is empty"),
        (b"[]", [], 400, None, "no event"),
        (b"\n", [b"Content-Type: application/x-ndjson"], 400, None, "no event"),
        (b"junk", [b"Content-Encoding: gzip"], 400, "encoding", "not valid gzip"),
        (gzip.compress(bytes(20_000), mtime=0), [b"Content-Encoding: gzip"], 413, None, "MAX_BODY_BYTES, 10000"),
        (b"[%b]" % b",".join([event()] * 6), [], 413, "too_many", "QUEUE_SIZE, 5"),
        (event(), [b"Content-Type: text/html"], 415, None, "application/x-ndjson"),
        (event(), [b"Content-Encoding: compress"], 415, None, "zstd"),
        (event(), [b"Content-Type: " + b"x" * 1000], 415, None, "'" + "x" * 100 + "'"),
    ],
)
def test_what_cannot_be_taken_gets_its_code_and_says_what_to_do(
    body: bytes, lines: list[bytes], status: int, reason: str | None, words: str
) -> None:
    wire = Wire(FakeIntake(capacity=5))
    assert words in problem(ask(wire, body, *lines), status)["detail"]
    assert wire.intake.taken == []
    assert wire.rejected == ({reason: 1} if reason else {})


def test_415_for_a_coding_says_which_are_taken() -> None:
    assert ask(Wire(), event(), b"Content-Encoding: compress").headers["accept-encoding"] == "gzip, deflate, zstd"


def test_no_room_is_503_and_nothing_is_taken() -> None:
    wire = Wire(FakeIntake(room=1))
    answer = ask(wire, b"[%b,%b,{}]" % (event("a"), event("b")))
    assert "Nothing of this request was taken" in problem(answer, 503)["detail"]
    assert answer.headers["retry-after"] == "7"
    assert wire.intake.taken == []
    assert wire.rejected == {"invalid": 1, "queue_full": 1}
    assert ask(wire, event("a")).status == 202


def test_in_block_mode_invalid_events_are_told_after_the_wait() -> None:
    wire = Wire(FakeIntake(room=0, blocking=True))
    assert wire.feed(post(b"[%b,{}]" % event("a"))) == []
    wire.intake.make_room(1)
    (answer,) = wire.answers()
    assert (answer.status, answer.json["accepted"], answer.json["rejected"][0]["index"]) == (202, 1, 1)


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "refusal"),
    [
        ([], WANTED),
        ([b"Authorization: Bearer one"], None),
        ([b"authorization: bearer   two"], None),
        ([b"X-API-Key: two"], None),
        ([b"Authorization: Basic one", b"X-API-Key: one"], None),
        ([b"Authorization: Bearer"], WANTED),
        ([b"Authorization: Bearer onetwo"], UNKNOWN),
        ([b"Authorization: Bearer on"], UNKNOWN),
        ([b"Authorization: one"], WANTED),
        ([b"X-API-Key: "], WANTED),
        ([b"X-API-Key: one, two"], UNKNOWN),
        ([b"X-API-Key: \xff"], UNKNOWN),
        (["X-API-Key: schlüssel".encode()], None),
    ],
)
def test_a_key_is_wanted_where_keys_are_configured(lines: list[bytes], refusal: str | None) -> None:
    wire = Wire(keys=["one", "two", "schlüssel"])
    for _ in range(2):
        answer = ask(wire, event(), *lines)
        assert answer.status == (202 if refusal is None else 401)
        if refusal is not None:
            assert answer.headers["www-authenticate"].startswith("Bearer")
            assert answer.json["detail"] == refusal
    assert wire.rejected == ({"unauthorized": 2} if refusal is not None else {})


def test_a_key_is_judged_before_the_media_type() -> None:
    assert ask(Wire(keys=["one"]), event(), b"Content-Type: text/html").status == 401


# --- CORS ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("configured", "origin", "allowed", "vary"),
    [
        ([], "http://a", None, None),
        (["http://a"], "http://a", "http://a", "origin"),
        (["http://a", "http://b"], "http://b", "http://b", "origin"),
        (["http://a"], "http://b", None, "origin"),
        (["http://a"], "http://a.evil", None, "origin"),
        (["http://a"], "null", None, "origin"),
        (["http://a"], None, None, "origin"),
        (["*"], "http://anything", "*", None),
        (["*", "http://a"], "http://a", "http://a", "origin"),
        (["*", "http://a"], "http://b", "*", "origin"),
        (["*"], "http://a\xff", "*", None),
    ],
)
@pytest.mark.parametrize("body", [event(), b"{}"], ids=["202", "400"])
def test_an_origin_is_allowed_if_it_is_configured(
    configured: list[str], origin: str | None, allowed: str | None, vary: str | None, body: bytes
) -> None:
    lines = [b"Origin: " + origin.encode("latin-1")] if origin else []
    answer = ask(Wire(origins=configured), body, *lines)
    assert answer.headers.get("access-control-allow-origin") == allowed
    assert answer.headers.get("vary") == vary
    assert ("access-control-expose-headers" in answer.headers) is (allowed is not None)
    # Browsers take no credentials for an answer to *, so that is never said of it (Fetch standard §3.2.5).
    assert (answer.headers.get("access-control-allow-credentials") == "true") is (allowed not in {None, "*"})
