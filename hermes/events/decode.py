"""Decodes the bytes of a request body to events, or to messages that tell a client the faults. Pure.

The usual body, all valid, costs one pass of msgspec's decoder and a few searches in C; only a body with a fault is
walked event by event, to find each faulty event. `EventDecoder` reads Hermes's own events; `explain` walks the events
of every protocol (``hermes.events.protocols``).

Invariant: an event that leaves this module keeps every rule of an event, no input raises anything but `BadBody`, and a
fault in one of several events rejects that event alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from hermes.base.json.missing_fields import explain_missing
from hermes.base.json.rules import (
    BACKSLASH,
    NUL_ESCAPE,
    SEPARATE,
    SHALLOW,
    UNDECODABLE,
    WHITESPACE,
    BadBody,
    Text,
    any_deep,
    check_text,
    describe_error,
    find_elements,
    is_clean,
    is_deep,
    without_mark,
)
from hermes.base.json.wrong_types import kind_of
from hermes.events.event import MAX_TIMESTAMP, Event
from hermes.net.http.rejection import MAX_REJECTIONS, Rejection

# `curl -d id=7` and the forms of a page send such a body: the error then says so.
_FORM = re.compile(rb"[\w.%-]{1,64}=")
# Begins with a character that is no white space, so an empty line is skipped even if it ends in CR LF. A CR at the end
# of a line is white space of JSON.
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
# As a number: a slice of one byte costs each request more than an index.
_BRACE = 0x7B
# Characters of a message with a client's value in it.
_MOST_ECHOED = 120
# Types of EVENT_TYPES that an answer names, for each of its rejected events.
_MOST_NAMED = 10
_WHOLE_SECONDS = (
    "expected whole Unix seconds; or set EVENT_TIMES=any, which takes milliseconds, fractions and RFC 3339 text too"
)
_ANY_TIME = "expected Unix seconds or milliseconds, or RFC 3339 text with a zone, from 1970 to 9999"


@dataclass(frozen=True, slots=True)
class Decoded:
    """The valid events of a request, in the request's order, and the rejected ones.

    ``size`` is the number of bytes that the events keep alive, if not the body's size; ``note`` is a message for the
    client although its events were accepted.

    >>> Decoded([make_event("1")], rejected=[Rejection(1, "Object missing required field `user_id`")]).size
    0
    """

    events: list[Event]
    rejected: Sequence[Rejection] = ()
    size: int = 0
    note: str = ""


def allowed_types(event_types: Sequence[str]) -> Any:
    """Return the type of an event's ``type``, for msgspec, with the types that EVENT_TYPES allows."""
    if tuple(event_types) == ("*",):
        # \Z and not $: a dollar sign also matches before a final line feed.
        # ^: msgspec looks for a pattern anywhere in the text.
        return Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.:-]{1,64}\Z")]
    return Literal[tuple(event_types)]


def advise_unlisted(event_types: Sequence[str]) -> str:
    """Return the advice about a type that EVENT_TYPES lacks, with the first types of EVENT_TYPES."""
    named = ", ".join(event_types[:_MOST_NAMED]) + (", …" if len(event_types) > _MOST_NAMED else "")
    return f"not in EVENT_TYPES: add it there, or set EVENT_TYPES=* to take any (it has {named})"


class EventDecoder:
    """Reads events whose type is one of ``event_types`` (``("*",)``: any name of 1 to 64 of ``[A-Za-z0-9_.:-]``).

    ``any_times``: a timestamp may also be in milliseconds, with a fraction, or RFC 3339 text.

    >>> decoder = EventDecoder(["song_played"])
    >>> body = b'[{"id":"1","user_id":"ann","type":"song_played","timestamp":1700000000}, {"id":"2"}]'
    >>> decoded = decoder.decode_json(body)
    >>> [event.id for event in decoded.events], decoded.rejected
    (['1'], [Rejection(index=1, error='Object missing required field `user_id`')])
    """

    def __init__(self, event_types: Sequence[str], *, any_times: bool = False) -> None:
        self._any_times = any_times
        self._unlisted = advise_unlisted(event_types)
        # The allowed types are configuration, so the struct that checks them in C is made at the start.
        checked_id = Annotated[str, Meta(min_length=1, max_length=256)]
        checked: Any = msgspec.defstruct("Event", [("type", allowed_types(event_types))], bases=(Event,), gc=False)
        self._one: msgspec.json.Decoder[Event] = msgspec.json.Decoder(checked)
        # Looked up once: each request with one event takes this way.
        self._decode_one = self._one.decode
        self._list: msgspec.json.Decoder[list[Event]] = msgspec.json.Decoder(list[checked])
        # With a zone, as RFC 3339 demands: a time without a zone is another moment in each country.
        time: Any = int | float | Annotated[datetime, Meta(tz=True)] if any_times else int | float
        # `kw_only` below: msgspec takes no required field behind an optional one, and here the id, the first field, is
        # optional.
        lenient: list[Any] = [("id", checked_id | UnsetType, UNSET), ("timestamp", time)]
        self._lenient: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            msgspec.defstruct("Event", lenient, bases=(checked,), gc=False, kw_only=True)
        )

    def decode_one(self, body: bytes) -> Event | None:
        """Return the event of the most common body, one valid object in ASCII. None: `decode_json` must look closer."""
        try:
            event = self._decode_one(body)
        except UNDECODABLE:
            return None
        # msgspec looks into no `Raw`, so the payload's UTF-8 and U+0000 are judged here. ASCII is always UTF-8; any
        # other body goes the long way.
        if (BACKSLASH not in body or NUL_ESCAPE not in body) and body.isascii() and bytes(event.payload)[0] == _BRACE:
            return event if len(body) < SHALLOW or not is_deep(event.payload) else None
        return None

    def decode_json(self, body: bytes, ids: Callable[[int], str] | None = None) -> Decoded:
        """Return the events of a JSON object or of an array of objects. Raises `BadBody`.

        ``ids`` gives an id to each event without one, by its place in the request; None: every event needs its own id.
        """
        body = without_mark(body)
        # lstrip copies the body, so the first byte alone is asked first.
        single = body[:1] == b"{" or body.lstrip(WHITESPACE)[:1] == b"{"
        if ids is None:
            try:
                # Not with ``ids``: this decoder would stop at the first event without an id.
                events = [self._one.decode(body)] if single else self._list.decode(body)
                if self._clean(body, events):
                    return Decoded(events)
            except UNDECODABLE:
                pass
        check = partial(self._check, ids)
        if single:
            return explain([body], check, alone=True)
        # An empty body goes on to `find_elements`, whose error says that the body is empty.
        if body.lstrip(WHITESPACE)[:1] not in {b"[", b""}:
            form = "; this looks like a form's fields" if _FORM.match(body) else ""
            raise BadBody(f"expected a JSON object, or an array of objects{form}")
        return explain(map(bytes, find_elements(body)), check)

    def decode_lines(self, body: bytes, ids: Callable[[int], str] | None = None) -> Decoded:
        """Return the events of newline-delimited JSON, one object a line; empty lines are skipped. Raises `BadBody`.

        ``ids`` are as in `decode_json`.
        """
        body = without_mark(body)
        if ids is None:
            try:
                events = self._one.decode_lines(body)
                # The decoder also accepts events without a line break between them, and an event on several lines. So
                # the number of lines must be the number of events.
                if body.count(b"\n") + (body[-1:] != b"\n") == len(events) and self._clean(body, events):
                    return Decoded(events)
            except UNDECODABLE:
                pass
        lines = (match[0] for match in _LINE.finditer(body))
        return explain(lines, partial(self._check, ids), "; send one event a line (curl: --data-binary)")

    def _clean(self, body: bytes, events: list[Event]) -> bool:
        """Whether decoded events keep the rules that the decoder does not check, judged over the whole body at once."""
        if not is_clean(body):
            return False
        # Valid JSON contains no NUL byte, so a NUL byte can separate the payloads. Each must begin with a brace.
        payloads = [event.payload for event in events]
        # For a single event one byte is enough: copying a payload of megabytes takes as long as decoding it.
        joined = b"\0".join(payloads) if len(events) != 1 else bytes(memoryview(payloads[0])[:1])
        if events and (joined[:1] != b"{" or joined.count(b"\0{") != len(events) - 1):
            return False
        return not any_deep(payloads)

    def _check(self, ids: Callable[[int], str] | None, index: int, text: bytes) -> Event:
        try:
            event = self._one.decode(text)
        except msgspec.ValidationError as error:
            # Broken JSON raises `DecodeError`, which is no `ValidationError`: there is nothing to mend.
            event = self._mend(text, ids and ids(index), str(error))
        # After the decoding: msgspec takes U+0000 in a string, and any bytes in a `Raw`.
        check_text(text)
        if bytes(event.payload)[:1] != b"{":
            raise msgspec.ValidationError(f"Expected `object`, got `{kind_of(event.payload)}` - at `$.payload`")
        # The error of msgspec itself for nesting that is deeper still, so both depths get the same words.
        if len(text) >= SHALLOW and is_deep(event.payload):
            raise RecursionError
        return event

    def _mend(self, text: bytes, id_: str | None, error: str) -> Event:
        """Return an event that lacks an id, if it may, or has a time of another form.

        Raises `msgspec.ValidationError`.
        """
        try:
            told = self._lenient.decode(text)
        except msgspec.ValidationError:
            # `error` is the message of the strict decoder, which names the field; the lenient decoder's would confuse.
            raise msgspec.ValidationError(self._advise(error)) from None
        # JSON Schema counts 1700000000.0 as an integer, and clients are generated from the OpenAPI document.
        seconds = _whole_seconds(told.timestamp) if self._any_times else int(told.timestamp)
        given = id_ if told.id is UNSET else told.id
        whole = self._any_times or seconds == told.timestamp
        if given is None or not whole or not 0 <= seconds <= MAX_TIMESTAMP:
            raise msgspec.ValidationError(self._advise(error))
        return Event(given, told.user_id, told.type, seconds, told.payload)

    def _advise(self, error: str) -> str:
        # By the end of the message: msgspec tells the name of the field in no other way.
        if error.endswith("field `id`"):
            return f"{error}: give the event one, or the request an Idempotency-Key"
        if error.endswith("`$.timestamp`"):
            return f"{error}: {_ANY_TIME if self._any_times else _WHOLE_SECONDS}"
        if not error.endswith("`$.type`"):
            return error
        if error.startswith("Invalid enum value"):
            # The message holds the client's value, of any length.
            if len(error) > _MOST_ECHOED:
                error = f"{error[:_MOST_ECHOED]}…' - at `$.type`"
            return f"{error}: {self._unlisted}"
        return f"{error}: expected 1 to 64 of A-Z a-z 0-9 _ . : -"


def _whole_seconds(time: float | datetime) -> int:
    """Return the Unix seconds of a time; a time after the year 9999 is taken for milliseconds."""
    if isinstance(time, datetime):
        time = time.timestamp()
    # Floor division: int() alone would make 0 of -0.5, and take a time before 1970. The year 9999 ends one second after
    # MAX_TIMESTAMP, and a fraction of that second is still in seconds.
    return int(time // 1000 if time >= MAX_TIMESTAMP + 1 else time // 1)


_decode_raw = msgspec.json.Decoder(Raw).decode


def explain(
    texts: Iterable[Text],
    check: Callable[[int, Text], Event],
    separate: str = SEPARATE,
    *,
    alone: bool = False,
    partial: bool = False,
) -> Decoded:
    """Read each event by itself with ``check``, from its place and its text. Raises `BadBody`.

    ``check`` raises `msgspec.ValidationError` for an event that breaks a rule, and one of `UNDECODABLE` for broken
    JSON. ``separate`` is the advice for a text with more than one value. ``alone``: the text is the whole body, so
    broken JSON leaves no event to report. ``partial``: any number of events may be invalid; the first `MAX_REJECTIONS`
    have a reason of their own, and the first reason stands for the others.

    >>> explain([b"1", b"2"], lambda index, text: make_event(text.decode())).rejected
    []
    """
    events: list[Event] = []
    rejected: list[Rejection] = []
    for index, text in enumerate(texts):
        try:
            events.append(check(index, text))
            continue
        except UNDECODABLE as error:
            if len(rejected) < MAX_REJECTIONS:
                told, readable = _describe_fault(error, bytes(text), separate)
                if alone and not readable:
                    raise BadBody(told) from None
                rejected.append(Rejection(index, told))
            else:
                # The same object again: a body of a million faults must not take memory for each.
                rejected.append(rejected[0])
        if len(rejected) > MAX_REJECTIONS and not partial:
            raise too_many_rejected(rejected[0])
    return Decoded(events, rejected)


def _describe_fault(error: Exception, text: bytes, separate: str) -> tuple[str, bool]:
    """Return the fault of an event, and whether its text is JSON, so that it is an event at all."""
    if isinstance(error, msgspec.ValidationError):
        try:
            # A decoder that stops at a wrong field has not seen whether the rest is cut off.
            _decode_raw(text)
        except UNDECODABLE as worse:
            # Described within this block: a name that outlives it would hold the error, whose traceback holds the frame
            # and the body, a cycle until the next garbage collection.
            return describe_error(worse, text, separate), False
        return explain_missing(error, text), True
    return describe_error(error, text, separate), False


def too_many_rejected(first: Rejection) -> BadBody:
    """Return the error for a request with more invalid events than an answer lists."""
    return BadBody(
        f"more than {MAX_REJECTIONS} events are invalid, the first (index {first.index}): {first.error}. Nothing of "
        "this request was taken"
    )
