"""Judges the answer to a posted batch: taken, refused, or to be sent again. Pure.

    2xx                    taken, except the events that `{"rejected": [{"index": 0, "error": "…"}]}` names
    400, 422               refused: the events that the answer names so, or unknown events
    413                    too large: smaller parts may pass, a single event will not
    anything else          not now: the same batch again, not before Retry-After

Invariant: only an answer about the content rejects an event. The operator mends a wrong key, a wrong path or a
redirect, and the batch waits.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from hermes import SinkUnavailable
from hermes.kit import clean
from hermes.kit.http import Answer, host_of, retry_after
from hermes_sinks.common.parts import Refusal

# Characters of the words for one event.
MOST_ERROR = 500
# Not 415: the format is the operator's choice, and the fault of no event.
_BLAMES_CONTENT = frozenset({400, 413, 422})
_MENDS = {
    401: "set or renew the credentials in SINK_HTTP_HEADERS or SINK_HTTP_URL",
    402: "the receiver wants to be paid",
    403: "the credentials in SINK_HTTP_HEADERS or SINK_HTTP_URL, or SINK_HTTP_SECRET, are not accepted",
    404: "check the path of SINK_HTTP_URL",
    405: "check the path of SINK_HTTP_URL: it takes no POST",
    406: "the receiver does not answer as it should",
    407: "a proxy wants credentials",
    410: "the receiver is gone for good: name another SINK_HTTP_URL, or take http out of SINKS",
    411: "something on the way does not pass on the body's length",
    415: "change SINK_HTTP_FORMAT or SINK_HTTP_COMPRESS to what the receiver takes",
    431: "SINK_HTTP_HEADERS are too large for the receiver",
}


class _Rejection(msgspec.Struct):
    index: int
    error: str = "rejected"


class _Rejected(msgspec.Struct):
    rejected: list[_Rejection]


_rejected = msgspec.json.Decoder(_Rejected)


def answer_limit(count: int) -> int:
    """Return how many bytes of an answer to ``count`` events to read: the answer may have an error for each event."""
    return 4096 + 1024 * count


def judge(answer: Answer, count: int, now: float) -> Refusal | None:
    """Return the refusal of ``count`` events, or None if all were taken. ``now`` is in Unix seconds.

    Raises `hermes.SinkUnavailable` if the batch has to be sent again.

    >>> judge(Answer(200, {}, b'{"rejected": [{"index": 1, "error": "too old"}]}'), 2, 0.0).named
    {1: 'too old'}
    """
    if 200 <= answer.status < 300:
        named = _named(answer.body, count)
        return Refusal("", named, rest_taken=True) if named else None
    reason = _say(answer)
    if answer.status in _BLAMES_CONTENT:
        # A 413 is about the size of the part, whatever its body names.
        return Refusal(reason, _named(answer.body, count) if answer.status != 413 else {}, quote=answer.excerpt)
    # The body of a 5xx may be a stack trace that quotes the posted events, so it is left out.
    if answer.excerpt and answer.status < 500:
        reason += f": {answer.excerpt}"
    raise SinkUnavailable(reason, retry_after=retry_after(answer, now))


def _named(body: bytes, count: int) -> dict[int, str]:
    """Return the reasons of the events that an answer refuses by index, in the form of Hermes's own answers."""
    # Most answers name no event, and are not parsed.
    if b'"rejected"' not in body:
        return {}
    try:
        found = _rejected.decode(body).rejected
    # Another service's meaning of `rejected`.
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    # An index beyond the events names none of them.
    return {each.index: clean(each.error, MOST_ERROR) or "rejected" for each in found if 0 <= each.index < count}


def _say(answer: Answer) -> str:
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    # The receiver may use a code that has no name in HTTP.
    except ValueError:
        phrase = ""
    words = f"it answered {answer.status}{phrase}"
    if 300 <= answer.status < 400:
        # Only the host: the rest of a location may hold tokens, which must not be in a log.
        host = host_of(answer.headers.get("location", ""))
        words += f" to {host or 'another path'}; redirects are not followed: set SINK_HTTP_URL to the new place"
    mend = _MENDS.get(answer.status)
    return words + (f" ({mend})" if mend else "")
