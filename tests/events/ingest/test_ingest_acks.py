"""``Hermes-Ack`` at the route: what is asked for, what the intake is told, and the words for each outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from hermes.events.ack import Ack, Outcome, Receipt, Tell
from hermes.events.event import Event
from hermes.observe.traced_request import TracedRequest
from tests.net.http.kit import Answer, FakeIntake, Wire, event, post


@dataclass
class SlowIntake(FakeIntake):
    """Answers when the test says so."""

    ack: Ack = Ack.DURABLE
    open: list[tuple[int, Tell]] = field(default_factory=list)
    called_off: int = 0

    def submit(
        self, events: list[Event], size: int, ack: Ack, tell: Tell, traced: TracedRequest | None = None
    ) -> Callable[[], None]:
        self.asked.append(ack)
        self.open.append((len(events), tell))

        def call_off() -> None:
            self.called_off += 1

        return call_off

    def tell(self, outcome: Outcome, receipt: Receipt | None = None) -> None:
        """Answer the request that has waited longest."""
        self.open.pop(0)[1](outcome, receipt)


def receipt(*notes: tuple[int, int, int], durable: bool = True) -> Receipt:
    made = Receipt(100, ("main",), lambda *_: None)
    made.durable = durable
    for note in notes:
        made.note("main", *note)
    return made


def asking(ack: str, body: bytes = b"") -> bytes:
    return post(body or event("a"), b"Hermes-Ack: " + ack.encode())


def answer_to(outcome: Outcome, told: Receipt | None = None, ack: str = "delivered", body: bytes = b"") -> Answer:
    wire = Wire(intake := SlowIntake())
    assert wire.feed(asking(ack, body)) == []
    intake.tell(outcome, told)
    (answer,) = wire.answers()
    return answer


@pytest.mark.parametrize("default", [Ack.ACCEPTED, Ack.DURABLE])
def test_without_the_header_the_default_of_the_service_is_asked_for(default: Ack) -> None:
    intake = SlowIntake(ack=default)
    wire = Wire(intake)
    answers = wire.feed(post(event("a")))
    if default is Ack.DURABLE:
        assert (answers, intake.asked) == ([], [Ack.DURABLE])
    else:
        assert ([answer.status for answer in answers], intake.ids) == ([202], ["a"])


@pytest.mark.parametrize(
    ("text", "ack"),
    [
        ("accepted", Ack.ACCEPTED),
        ("durable", Ack.DURABLE),
        ("delivered", Ack.DELIVERED),
        (" DELIVERED ", Ack.DELIVERED),
        ("Accepted", Ack.ACCEPTED),
    ],
)
def test_the_header_says_how_far_to_wait_whatever_its_case(text: str, ack: Ack) -> None:
    wire = Wire(intake := SlowIntake())
    wire.feed(asking(text))
    assert intake.asked == [ack]


@pytest.mark.parametrize("text", ["", "yes", "all", "durable, delivered", "1", "acceptéd", "x" * 500])
def test_another_value_is_a_400_that_names_the_three(text: str) -> None:
    wire = Wire(intake := SlowIntake())
    body = event("a")
    (answer,) = wire.feed(post(body, b"Hermes-Ack: " + text.encode("latin-1")))
    assert answer.status == 400
    assert answer.json["detail"].endswith("is not known: send accepted, durable or delivered")
    assert len(answer.json["detail"]) < 250
    assert intake.asked == []


def test_durable_is_a_400_where_nothing_is_kept_and_the_others_are_not() -> None:
    wire = Wire(SlowIntake(ack=Ack.ACCEPTED))
    (answer,) = wire.feed(asking("durable"))
    assert answer.status == 400
    assert "DURABILITY=memory keeps nothing on disk: send accepted or delivered" in answer.json["detail"]
    for text, ack in (("accepted", Ack.ACCEPTED), ("delivered", Ack.DELIVERED)):
        wire = Wire(intake := SlowIntake(ack=Ack.ACCEPTED))
        wire.feed(asking(text))
        assert intake.asked == [ack]


def test_a_request_whose_outcome_is_good_is_a_202_with_what_was_taken_and_what_was_not() -> None:
    assert answer_to(Outcome.TAKEN).json == {"accepted": 1}
    body = b"[%b,%b]" % (event("a"), event(""))
    answer = answer_to(Outcome.TAKEN, body=body)
    assert (answer.status, answer.json["accepted"]) == (202, 1)
    assert [rejected["index"] for rejected in answer.json["rejected"]] == [1]


def test_what_the_journal_can_never_take_at_once_is_a_413_which_no_client_repeats_for_ever() -> None:
    wire = Wire(intake := SlowIntake())
    wire.feed(asking("durable"))
    intake.tell(Outcome.TOO_LARGE, None)
    (answer,) = wire.answers()
    assert answer.status == 413
    assert "send fewer events a request" in answer.json["detail"]
    assert "retry-after" not in answer.headers
    assert wire.rejected == {"too_large": 1}


@pytest.mark.parametrize(
    ("outcome", "reason", "words"),
    [
        (Outcome.NO_ROOM, "queue_full", "the queue is full. Nothing of this request was taken: send it again"),
        (Outcome.NO_SPACE, "journal_full", "the journal is full"),
        (Outcome.FAILED, "journal_failed", "the journal cannot be written"),
    ],
)
@pytest.mark.parametrize("ack", ["accepted", "durable", "delivered"])
def test_what_was_not_taken_is_a_503_with_its_reason_and_when_to_come_again(
    ack: str, outcome: Outcome, reason: str, words: str
) -> None:
    wire = Wire(intake := SlowIntake())
    wire.feed(asking(ack))
    # What could not be committed has a receipt that says so, and that is not to be believed to be more.
    intake.tell(outcome, receipt(durable=False) if ack == "delivered" and outcome is Outcome.FAILED else None)
    (answer,) = wire.answers()
    # A full journal takes a while to empty, whatever the queue does.
    assert (answer.status, answer.headers["retry-after"]) == (503, "10" if outcome is Outcome.NO_SPACE else "7")
    assert answer.json["detail"].startswith(words)
    assert answer.json["detail"].endswith("Nothing of this request was taken: send it again")
    assert wire.rejected == {reason: 1}
    assert "accepted" not in answer.json


@pytest.mark.parametrize(
    ("outcome", "told", "status", "facts"),
    [
        (Outcome.REFUSED, receipt((99, 1, 0)), 422, {"delivered": 99, "dead_lettered": 1, "dropped": 0}),
        (Outcome.LATE, receipt((40, 0, 0)), 504, {"delivered": 40, "dead_lettered": 0, "dropped": 0}),
        (Outcome.LATE, receipt(durable=False), 504, {"delivered": 0, "dead_lettered": 0, "dropped": 0}),
        (Outcome.DROPPED, receipt((1, 0, 99), durable=False), 503, {"delivered": 1, "dead_lettered": 0, "dropped": 99}),
    ],
)
def test_what_was_taken_but_not_delivered_is_told_sink_by_sink(
    outcome: Outcome, told: Receipt, status: int, facts: dict[str, Any]
) -> None:
    answer = answer_to(outcome, told)
    assert answer.status == status
    assert answer.json["sinks"] == {"main": facts}
    assert (answer.json["accepted"], answer.json["durable"]) == (1, told.durable)
    assert ("the journal has them" in answer.json["detail"]) == (outcome is Outcome.LATE and told.durable)
    assert ("retry-after" in answer.headers) == (status == 503)


def test_answers_keep_the_order_of_the_requests_whatever_each_asked_for() -> None:
    wire = Wire(intake := SlowIntake())
    assert wire.feed(asking("delivered", event("a")) + asking("durable", event("b")) + asking("maybe")) == []
    _, second = intake.open.pop(1)
    second(Outcome.TAKEN, None)
    assert wire.answers() == []
    intake.tell(Outcome.LATE, receipt())
    assert [answer.status for answer in wire.answers()] == [504, 202, 400]
