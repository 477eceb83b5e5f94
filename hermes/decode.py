"""Decodes the bytes of a request body to events, or to messages that tell a client the faults. Pure.

The usual body, all valid, costs one pass of msgspec's decoder and a few searches in C; only a body with a fault is
walked event by event, to find each faulty event. `EventDecoder` reads Hermes's own events; the functions below it are
the rules of JSON that the decoders of other protocols keep as well (``hermes.protocols``).

Invariant: an event that leaves this module keeps every rule of an event, no input raises anything but `BadBody`, and a
fault in one of several events rejects that event alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from hermes.elements import STRING, cut_off, split_array
from hermes.errors import HermesError
from hermes.event import MAX_TIMESTAMP, Event
from hermes.misnamed import explain_missing

MAX_REJECTIONS = 1000
"""The largest number of invalid events that an answer lists. With more, the whole request is refused."""

MAX_NESTING = 500
"""The deepest nesting of a payload's arrays and objects. Every Python and every database reads this depth; beyond it,
one would refuse a payload that another takes."""

JUDGED = 128 * 2**10
"""The longest text, in bytes, whose nesting is judged during decoding. `hermes.cut` judges a longer one in slices."""

TOO_DEEP = f"JSON is nested too deeply: at most {MAX_NESTING} levels are taken"
"""The fault of a text that is nested deeper than `MAX_NESTING`."""

SHALLOW = 2 * MAX_NESTING
"""Shorter JSON cannot be nested too deeply, because each level takes an opening and a closing byte."""

Text = TypeVar("Text", bytes, Raw)

_WHITESPACE = b" \t\r\n"
# The beginning of JSON in UTF-32 and, in the group, UTF-16: a mark, or one of JSON's own characters among zero bytes.
_WIDE = re.compile(
    rb"\xff\xfe\0\0|\0\0\xfe\xff|[{\[\" \t\r\n]\0\0\0|\0\0\0[{\[\" \t\r\n]"
    rb"|(\xff\xfe|\xfe\xff|[{\[\" \t\r\n]\0[^\0]\0|\0[{\[\" \t\r\n]\0[^\0])"
)
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STRING = re.compile(STRING, re.DOTALL)
_FORM = re.compile(rb"[\w.%-]{1,64}=")
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
_NOT_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
# A list of all elements takes some 50 bytes for each. That is harmless in a short body, and in a body with fewer commas
# than one in this many bytes.
_HELD_BYTES = 2**20
_BYTES_A_COMMA = 8
# Characters of a message with a client's value in it.
_MOST_ECHOED = 120
# Types of EVENT_TYPES that an answer names, for each of its rejected events.
_MOST_NAMED = 10
# As an integer, because a search for one byte is six times faster than a search for the six of the escape.
_BACKSLASH = 0x5C
_BRACE = 0x7B
_NUL_ESCAPE = rb"\u0000"
# Half of a surrogate pair: the remainder of a string that was cut in the middle of an emoji.
_HALF_PAIR = re.compile(
    rb"(?<!\\)(?:\\\\)*+(\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2}))"
)
_SEPARATE = "; several events? send them as application/x-ndjson, one a line (curl: --data-binary)"
_WHOLE_SECONDS = (
    "expected whole Unix seconds; or set EVENT_TIMES=any, which takes milliseconds, fractions and RFC 3339 text too"
)
_ANY_TIME = "expected Unix seconds or milliseconds, or RFC 3339 text with a zone, from 1970 to 9999"
UNDECODABLE = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""The errors of msgspec for bytes that are not the expected JSON."""


class BadBody(HermesError):
    """The body as a whole cannot be read. The client acts; the message names the fault and its place."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that was refused: its place in the request, from 0, and the reason."""

    index: int
    error: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The valid events of a request, in the request's order, and the rejected ones.

    ``size`` is the number of bytes that the events keep alive, if it differs from the body's; ``note`` is a message for
    the client although its events were accepted.
    """

    events: list[Event]
    rejected: Sequence[Rejection] = ()
    size: int = 0
    note: str = ""


def allowed_types(event_types: Sequence[str]) -> Any:
    """Return the type of an event's ``type``, for msgspec, with the types that EVENT_TYPES allows."""
    if tuple(event_types) == ("*",):
        # \Z and not $: a dollar sign also matches before a final line feed.
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
        self._decode_one = self._one.decode
        self._list: msgspec.json.Decoder[list[Event]] = msgspec.json.Decoder(list[checked])
        time: Any = int | float | Annotated[datetime, Meta(tz=True)] if any_times else int | float
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
        if (_BACKSLASH not in body or _NUL_ESCAPE not in body) and body.isascii() and bytes(event.payload)[0] == _BRACE:
            return event if len(body) < SHALLOW or not is_deep(event.payload) else None
        return None

    def decode_json(self, body: bytes, ids: Callable[[int], str] | None = None) -> Decoded:
        """Return the events of a JSON object or of an array of objects. Raises `BadBody`.

        ``ids`` gives an id to each event without one, by its place in the request; None: every event needs its own id.
        """
        body = without_mark(body)
        # lstrip copies the body, so the first byte alone is asked first.
        single = body[:1] == b"{" or body.lstrip(_WHITESPACE)[:1] == b"{"
        if ids is None:
            try:
                events = [self._one.decode(body)] if single else self._list.decode(body)
                if self._clean(body, events):
                    return Decoded(events)
            except UNDECODABLE:
                pass
        check = partial(self._check, ids)
        if single:
            return explain([body], check, alone=True)
        if body.lstrip(_WHITESPACE)[:1] not in {b"[", b""}:
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
            event = self._mend(text, ids and ids(index), str(error))
        check_text(text)
        if bytes(event.payload)[:1] != b"{":
            raise msgspec.ValidationError("Expected `object` - at `$.payload`")
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
    return int(time // 1000 if time >= MAX_TIMESTAMP + 1 else time // 1)


_decode_raws = msgspec.json.Decoder(list[Raw]).decode
_decode_raw = msgspec.json.Decoder(Raw).decode


def is_sparse(body: bytes) -> bool:
    """Whether the elements of the arrays in a JSON text may be held all at once."""
    return len(body) <= _HELD_BYTES or body.count(b",") * _BYTES_A_COMMA <= len(body)


def find_elements(body: bytes) -> Iterable[Raw]:
    """Return the texts of an array's elements, with any faults within them. Raises `BadBody`, maybe after some."""
    if is_sparse(body):
        try:
            return _decode_raws(body)
        except UNDECODABLE:
            pass  # the slower way finds the faulty element
    return _split(body)


def _split(body: bytes) -> Iterator[Raw]:
    try:
        yield from map(Raw, split_array(body))
    except msgspec.DecodeError as error:
        raise BadBody(describe_error(error, body)) from None


def explain(
    texts: Iterable[Text],
    check: Callable[[int, Text], Event],
    separate: str = _SEPARATE,
    *,
    alone: bool = False,
    partial: bool = False,
) -> Decoded:
    """Read each event by itself with ``check``, from its place and its text. Raises `BadBody`.

    ``check`` raises `msgspec.ValidationError` for an event that breaks a rule, and one of `UNDECODABLE` for broken
    JSON. ``separate`` is the advice for a text with more than one value. ``alone``: the text is the whole body, so
    broken JSON leaves no event to report. ``partial``: any number of events may be invalid; the first `MAX_REJECTIONS`
    have a reason of their own, and the first reason stands for the others.
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


def is_clean(body: bytes) -> bool:
    """Whether valid JSON is UTF-8 and has no escaped NUL, by a quick look that may also say no to a clean text.

    msgspec does not look inside `Raw`, so this function checks the whole body at once.
    """
    if _BACKSLASH in body and _NUL_ESCAPE in body:
        return False
    if not body.isascii():
        try:
            body.decode()
        except UnicodeDecodeError:
            return False
    return True


def check_text(text: bytes) -> None:
    """Check one event's text exactly. Raises `UnicodeDecodeError`, or `msgspec.ValidationError` for a NUL."""
    if not text.isascii():
        text.decode()
    # The escape itself, not an escaped backslash followed by the letters u0000.
    if _NUL_ESCAPE in text and _NUL_ESCAPE in text.replace(rb"\\", b""):
        raise msgspec.ValidationError("A string holds U+0000, which cannot be stored")


def any_deep(payloads: Sequence[Raw]) -> bool:
    """Whether one of the payloads is nested more than `MAX_NESTING` deep."""
    return max(map(len, payloads), default=0) >= SHALLOW and any(map(is_deep, payloads))


def is_deep(payload: Raw) -> bool:
    """Whether valid JSON is nested more than `MAX_NESTING` deep. False for a text longer than `JUDGED`.

    The depth of a longer text is known already: finding it takes a tenth of a second for each megabyte of tiny values,
    so ``hermes.cut`` does that in many steps.
    """
    if not SHALLOW <= len(payload) <= JUDGED:
        return False
    data = bytes(payload)
    # Counting brackets in C first: hardly any payload has enough of them to be too deep.
    if len(data.translate(None, _NOT_BRACKETS)) < SHALLOW:
        return False
    depth = 0
    for bracket in _STRING.sub(b"", data).translate(None, _NOT_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        if depth > MAX_NESTING:
            return True
    return False


def without_mark(body: bytes) -> bytes:
    """Return a body without the byte order mark that some editors and languages put before UTF-8 (RFC 8259 §8.1).

    Raises `BadBody` for UTF-16 and UTF-32.
    """
    refuse_wide(body)
    return body[len(_BYTE_ORDER_MARK) :] if body.startswith(_BYTE_ORDER_MARK) else body


def refuse_wide(body: bytes) -> None:
    """Raise `BadBody` for JSON in UTF-16 or UTF-32, with a byte order mark or without."""
    found = _WIDE.match(body)
    if found is not None:
        name = "UTF-32" if found[0].count(0) >= 2 and found[1] is None else "UTF-16"
        raise BadBody(f"the body is not UTF-8, it looks like {name}: send it as UTF-8")


def describe_error(error: Exception, text: bytes, separate: str = _SEPARATE) -> str:
    """Return the fault of ``text`` and its place; ``separate`` is the advice if the text has more than one value."""
    if not text.strip(_WHITESPACE):
        return "the body is empty"
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"JSON is not UTF-8: {error.reason} (byte {error.start})"
    half = _HALF_PAIR.search(text) if len(text) <= JUDGED else None
    if half is not None:
        escape = half[1].decode()
        return f"JSON is malformed: {escape} is half of a surrogate pair, and no character (byte {half.start(1)})"
    words = str(error)
    if words == "Input data was truncated":
        return f"JSON is malformed: {cut_off(len(text))}"
    return words + separate if "trailing characters" in words else words
