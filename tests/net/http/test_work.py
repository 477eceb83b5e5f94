"""Large requests, decoded in turns: the same answers as at once, fair turns, bounds, and clean ends."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

import pytest

from hermes.events.ack import Ack
from hermes.net.http.lane import BodyBudget
from hermes.net.http.work import CALLED_OFF, CROWDED, MOST_WAITING, Job, Workshop
from tests.net.http.kit import FakeIntake, Wire, event, head, post

MANY = 3_000
ARRAY = b"[" + b",".join(event(str(n)) for n in range(MANY)) + b"]"
LINES = b"\n".join(event(str(n)) for n in range(MANY))
BROKEN = b"[" + b",".join(event(str(n)) if n % 1000 else b'{"id":7}' for n in range(MANY)) + b"]"
NDJSON = b"Content-Type: application/x-ndjson"
GZIP = b"Content-Encoding: gzip"


def begin(wire: Wire, request: bytes) -> None:
    """Send a request, and give it no turn yet."""
    wire.connection.receive(request)


@pytest.mark.parametrize(
    ("body", "lines", "rejected"),
    [(ARRAY, (), []), (LINES, (NDJSON,), []), (gzip.compress(ARRAY), (GZIP,), []), (BROKEN, (), [0, 1000, 2000])],
    ids=["array", "lines", "gzip", "broken"],
)
def test_a_large_body_is_taken_as_a_small_one_is(body: bytes, lines: tuple[bytes, ...], rejected: list[int]) -> None:
    wire = Wire(max_body_bytes=10**6, budget=10**7)
    (answer,) = wire.feed(post(body, *lines))
    assert answer.status == 202
    assert answer.json["accepted"] == MANY - len(rejected)
    assert [each["index"] for each in answer.json.get("rejected", [])] == rejected
    assert wire.intake.ids == [str(n) for n in range(MANY) if n not in rejected]
    assert wire.used() == 0


def test_ids_made_from_a_key_are_by_the_place_in_the_whole_request() -> None:
    unnamed = [json.loads(event()) for _ in range(MANY)]
    for each in unnamed:
        del each["id"]
    body = json.dumps(unnamed).encode()
    found = []
    for lines in [(), (GZIP,)]:
        wire = Wire(max_body_bytes=10**6, budget=10**7)
        wire.feed(post(gzip.compress(body) if lines else body, b"Idempotency-Key: k", *lines))
        found.append(wire.intake.ids)
    assert found[0] == found[1]
    assert len(set(found[0])) == MANY


@pytest.mark.parametrize("ack", [Ack.ACCEPTED, Ack.DURABLE])
def test_a_small_request_is_answered_while_a_large_one_is_decoded(ack: Ack) -> None:
    wire = Wire(FakeIntake(ack=ack), max_body_bytes=10**6, budget=10**7)
    begin(wire, post(ARRAY))
    neighbour = Wire(wire.intake, lane=wire.lane)
    neighbour.connection.receive(post(event("small")))
    assert [answer.status for answer in neighbour.answers()] == [202]
    assert wire.intake.ids == ["small"]
    assert wire.used() >= len(ARRAY)
    assert [answer.json for answer in wire.feed(b"")] == [{"accepted": MANY}]


def test_room_is_looked_for_before_a_large_body_is_decoded() -> None:
    wire = Wire(FakeIntake(room=0), max_body_bytes=10**6, budget=10**7)
    begin(wire, post(gzip.compress(ARRAY), GZIP))
    assert [(answer.status, answer.headers["retry-after"]) for answer in wire.answers()] == [(503, "7")]
    assert not len(wire.workshop)


def test_more_events_than_the_queue_could_hold_are_not_all_decoded() -> None:
    wire = Wire(FakeIntake(capacity=500), max_body_bytes=10**6, budget=10**7)
    (answer,) = wire.feed(post(ARRAY))
    assert answer.status == 413
    assert "are more than QUEUE_SIZE, 500" in answer.json["detail"]
    assert int(answer.json["detail"].split()[0]) < MANY
    assert wire.used() == 0


def test_a_client_that_leaves_takes_its_large_request_along() -> None:
    wire = Wire(max_body_bytes=10**6, budget=10**7)
    begin(wire, post(ARRAY))
    wire.workshop.turn()
    wire.connection.drop()
    assert wire.used() == 0
    while wire.workshop.turn():
        pass
    assert not wire.intake.ids
    assert wire.lane.inflight == 0


def test_a_stop_answers_large_requests_that_are_not_decoded() -> None:
    wire = Wire(max_body_bytes=10**6, budget=10**7)
    begin(wire, post(ARRAY))
    wire.connection.call_off()
    (answer,) = wire.answers()
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert CALLED_OFF in answer.json["detail"]
    assert wire.rejected == {"crowded": 1}


def test_what_a_large_body_becomes_is_in_the_budget_too() -> None:
    wire = Wire(max_body_bytes=10**6, budget=len(ARRAY) // 2)
    (answer,) = wire.feed(post(gzip.compress(ARRAY), GZIP))
    assert answer.status == 503
    assert CROWDED in answer.json["detail"]
    assert wire.used() == 0


def test_a_client_without_a_key_is_refused_in_its_turn_and_keeps_no_other_waiting() -> None:
    wire = Wire(keys=["secret"], max_body_bytes=10**6, budget=10**8)
    message = b'{"type":"track","event":"x","userId":"u"}'
    keyless = post(b'{"batch":[' + b",".join([message] * 5_000) + b"]}", path=b"/v1/batch")
    begin(wire, keyless)
    keyed = Wire(wire.intake, lane=wire.lane)
    keyed.connection.receive(post(ARRAY, b"X-API-Key: secret"))
    while wire.workshop.turn():
        pass
    assert [answer.status for answer in keyed.answers()] == [202]
    assert [answer.status for answer in wire.answers()] == [401]


def count(turns: list[str], name: str, times: int) -> Iterator[int]:
    for _ in range(times):
        turns.append(name)
        yield 1


def test_large_requests_take_turns_and_the_line_is_bounded() -> None:
    workshop, turns, refused = Workshop(BodyBudget(10**6)), list[str](), list[str]()

    def job(name: str) -> Job:
        def steps() -> Iterator[int]:
            yield from count(turns, name, 3)

        return Job(steps(), refused.append, keyless=False)  # type: ignore[arg-type]

    first = [job(name) for name in "abcdef"]
    assert all(workshop.take(each, 10) for each in first)
    for _ in range(8):
        workshop.turn()
    assert "".join(turns) == "abcdabcd"
    waiting = [job("x") for _ in range(MOST_WAITING)]
    assert [workshop.take(each, 0) for each in waiting].count(False) == 2
    first[1].stop("because")
    assert refused == ["because"]
    while workshop.turn():
        pass
    assert turns.count("b") == 2
    assert "".join(turns[:20]).index("e") < 16
    assert not len(workshop)


def test_a_large_head_of_the_line_does_not_starve_those_behind_it() -> None:
    wire = Wire(max_body_bytes=10**6, budget=10**8)
    wires = [wire, *(Wire(wire.intake, lane=wire.lane) for _ in range(6))]
    for each in wires:
        begin(each, head(b"Content-Length: %d" % len(ARRAY)) + ARRAY)
    while wire.workshop.turn():
        pass
    assert [answer.json for each in wires for answer in each.answers()] == 7 * [{"accepted": MANY}]
