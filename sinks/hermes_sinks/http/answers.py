"""What the answer to a posted batch means for it. Pure.

    2xx                    taken; but for the events that `{"rejected": [{"index": 0, "error": "…"}]}` names, if it does
    400, 422               refused: the events it names so, or else some that have to be found
    413                    too large: smaller parts may pass, and a single event never will
    anything else          not now: the same batch again, no sooner than Retry-After says

Invariant: only an answer that speaks about the content costs an event. A wrong key, a wrong path and a redirect are
the operator's to mend, and the batch waits. Called by the http sink.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from hermes import SinkUnavailable
from hermes.kit import clean
from hermes.kit.http import Answer, host_of, retry_after
from hermes_sinks.common.parts import Refusal

MOST_ERROR = 500  # characters of the words for one event
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
    """How many bytes of the answer to ``count`` events are worth reading: it may say something about each."""
    return 4096 + 1024 * count


def judge(answer: Answer, count: int, now: float) -> Refusal | None:
    """What became of ``count`` events; None: all taken. Raises `hermes.SinkUnavailable`. ``now`` is in Unix seconds."""
    if 200 <= answer.status < 300:
        named = _named(answer.body, count)
        return Refusal("", named, rest_taken=True) if named else None
    reason = _say(answer)
    if answer.status in _BLAMES_CONTENT:
        return Refusal(reason, _named(answer.body, count) if answer.status != 413 else {}, quote=answer.excerpt)
    if answer.excerpt and answer.status < 500:  # the body of a receiver's own fault may quote what was posted
        reason += f": {answer.excerpt}"
    raise SinkUnavailable(reason, retry_after=retry_after(answer, now))


def _named(body: bytes, count: int) -> dict[int, str]:
    """The events that an answer refuses by their index, as Hermes itself answers; none where it says something else."""
    if b'"rejected"' not in body:
        return {}
    try:
        found = _rejected.decode(body).rejected
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):  # somebody else's idea of `rejected`
        return {}
    return {each.index: clean(each.error, MOST_ERROR) or "rejected" for each in found if 0 <= each.index < count}


def _say(answer: Answer) -> str:
    try:
        phrase = f" {HTTPStatus(answer.status).phrase}"
    except ValueError:
        phrase = ""
    words = f"it answered {answer.status}{phrase}"
    if 300 <= answer.status < 400:
        # By its host alone: the rest of a location may hold what should not be in a log.
        host = host_of(answer.headers.get("location", ""))
        words += f" to {host or 'another path'}; redirects are not followed: set SINK_HTTP_URL to the new place"
    mend = _MENDS.get(answer.status)
    return words + (f" ({mend})" if mend else "")
