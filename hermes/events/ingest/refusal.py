"""The answers to requests of which nothing was taken, or not as far as the client asked for, and their counts.

Invariant: every refusal that the metrics know is counted here, once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hermes.base.errors import HermesError
from hermes.events.ack import Outcome, Receipt
from hermes.events.ingest.format import Answers
from hermes.net.http.content import ContentError, ContentTooLarge
from hermes.net.http.head import too_large_detail
from hermes.net.http.keys import CHALLENGE, KeyRefused
from hermes.net.http.rejection import Rejection
from hermes.net.http.response import Response

# After these the events are accepted, so the answer tells their delivery and does not say "send it again".
_KNOWN_SINCE_TAKEN = {Outcome.REFUSED, Outcome.DROPPED, Outcome.LATE}
REFUSALS = {
    Outcome.NO_ROOM: ("queue_full", "the queue is full", 1),
    Outcome.NO_SPACE: ("journal_full", "the journal is full: a sink is far behind", 10),
    Outcome.FAILED: ("journal_failed", "the journal cannot be written", 5),
}
"""For each outcome that ends in a 503: the reason in the metrics, the message, the least Retry-After in seconds."""


class TooManyEvents(HermesError):
    """A request has more events than the queue could ever hold."""

    def __init__(self, count: int, capacity: int) -> None:
        super().__init__(f"{count} events are more than QUEUE_SIZE, {capacity}: send fewer a request")


class Refusals:
    """Makes the answers, and counts them in ``rejected`` by reason. ``max_body_bytes`` is the limit that a 413 names.

    ::

        refusals = Refusals(Counter(), max_body_bytes=2**20)
        response = refusals.key(answers, UNKNOWN)  # 401, and one more "unauthorized"
    """

    def __init__(self, rejected: Counter[str], max_body_bytes: int) -> None:
        self._rejected = rejected
        self._max_body_bytes = max_body_bytes

    def count_invalid(self, count: int) -> None:
        """Count events that were invalid."""
        self._rejected["invalid"] += count

    def unreadable(self, answers: Answers, coding: str, error: Exception) -> Response:
        """Answer a body that cannot be decoded or holds too much. ``coding`` is its Content-Encoding."""
        # Not counted by reason: the histogram of requests has its 413.
        if isinstance(error, ContentTooLarge):
            return answers.refused(413, str(error) or too_large_detail(self._max_body_bytes))
        if isinstance(error, TooManyEvents):
            return self._refuse(answers, 413, "too_many", str(error))
        if isinstance(error, ContentError):
            return self._refuse(answers, 400, "encoding", f"the body is not valid {coding}: {error}")
        if isinstance(error, KeyRefused):
            return self.key(answers, str(error))
        return self._refuse(answers, 400, "malformed", str(error))

    def crowded(self, answers: Answers, reason: str) -> Response:
        """Answer a large request that cannot be decoded now."""
        # One second: the workshop frees its room as soon as it has decoded one more request.
        self._rejected["crowded"] += 1
        return answers.refused(503, f"{reason}. Nothing of this request was taken: send it again", {"Retry-After": "1"})

    def key(self, answers: Answers, words: str) -> Response:
        """Answer a request without one of the configured keys."""
        self._rejected["unauthorized"] += 1
        # RFC 9110 §15.5.2: a 401 has to name a way to prove oneself.
        return answers.refused(401, words, CHALLENGE)

    def outcome(self, answers: Answers, outcome: Outcome, retry_after: int) -> Response:
        """Answer a request of which no event was taken. ``retry_after`` is the intake's estimate in seconds."""
        if outcome is Outcome.TOO_LARGE:
            return self._refuse(
                answers,
                413,
                "too_large",
                "the journal keeps a request in records of 5,000 events and at most 256 MiB, all of them within "
                "JOURNAL_MAX_BYTES, and this one is larger: send fewer events a request",
            )
        # The estimate of the intake knows the queue alone; a journal that is full or broken takes longer.
        reason, detail, least = REFUSALS[outcome]
        self._rejected[reason] += 1
        return answers.refused(
            503,
            f"{detail}. Nothing of this request was taken: send it again",
            {"Retry-After": str(max(retry_after, least))},
        )

    def _refuse(self, answers: Answers, status: int, reason: str, detail: str) -> Response:
        self._rejected[reason] += 1
        return answers.refused(status, detail)


def is_known_since_taken(outcome: Outcome) -> bool:
    """Whether the events were taken, and the outcome is about their delivery."""
    return outcome in _KNOWN_SINCE_TAKEN


def tell_receipt(
    answers: Answers, outcome: Outcome, count: int, rejected: Sequence[Rejection], receipt: Receipt, retry_after: int
) -> Response:
    """Answer a request that asked for the delivery of its ``count`` valid events, with the results of each sink."""
    sinks = {
        name: {"delivered": sink.delivered, "dead_lettered": sink.dead_lettered, "dropped": sink.dropped}
        for name, sink in receipt.sinks.items()
    }
    known: dict[str, Any] = {"accepted": count, "durable": receipt.durable, "sinks": sinks}
    if rejected:
        known["rejected"] = rejected
    # 422: to send the same events again would end the same way.
    if outcome is Outcome.REFUSED:
        return answers.refused(422, "a sink has refused some of the events for good: they are dead letters", **known)
    if outcome is Outcome.DROPPED:
        detail = "a sink will not get some of the events: send the request again"
        return answers.refused(503, detail, {"Retry-After": str(retry_after)}, **known)
    # 504 and not 503: a client that sends the request again would send events that are on their way.
    detail = "the sinks have not stored all of the events yet"
    detail += "; the journal has them, and they will be delivered" if receipt.durable else ""
    return answers.refused(504, detail, **known)
