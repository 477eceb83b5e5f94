"""Parses the conditions for dead letters and formats letters, for the command line and HTTP alike. Pure.

Invariant: a payload is shown byte for byte; only `encode_line` replaces the line breaks between JSON tokens by spaces.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from hermes.config.notation import parse_duration
from hermes.dead_letters.contract import SINKS_PART, DeadLetter, Selection
from hermes.dead_letters.replay import Replayed
from hermes.dead_letters.view import PLAIN, LetterView

SINCE = "a duration back from now such as 2h, an ISO time such as 2026-01-31T12:00:00Z, or Unix seconds"

# ASCII: without the flag \d matches the digits of every script.
_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_LONGEST = 100  # characters


def parse_since(text: str, now: float) -> float:
    """Unix seconds of a moment, written as `SINCE` says; ``now`` in Unix seconds. An ISO time without a zone is UTC.

    Raises ValueError, whose message completes "expected …".

    >>> parse_since("2h", now=1_700_000_000), parse_since("2026-01-31T12:00:00Z", now=0)
    (1699992800.0, 1769860800.0)
    """
    # The pattern of a duration takes time with the square of the text's length, and the text comes over HTTP.
    if len(text) > _LONGEST:
        raise ValueError(SINCE)

    # Before ISO 8601, whose basic form takes digits alone for a date, such as 20260131.
    if _SECONDS.fullmatch(text):
        return float(text)
    try:
        return now - parse_duration(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(SINCE) from None
    # UTC, not the machine's zone: the same text selects the same letters on every machine.
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def format_time(seconds: float) -> str:
    """A time in Unix seconds for people to read: UTC, to the second.

    >>> format_time(1700000000)
    '2023-11-14 22:13:20Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def choose(
    part: str | None = None,
    source: str | None = None,
    sink: str | None = None,
    type: str | None = None,  # noqa: A002 - the fact's own name
    reason: str | None = None,
    since: float | None = None,
    numbers: Sequence[int] | None = None,
) -> Selection:
    """The letters that match everything that is given. Raises ValueError, whose message says what is given too much.

    ``sink`` is short for a source of the events.

    >>> choose(sink="postgres").part
    'events'
    """
    if sink is not None and (source is not None or part not in (None, SINKS_PART)):
        raise ValueError(f"a sink is a source of the part {SINKS_PART}: name no other part or source")
    facts = {} if type is None else {"type": type}
    return Selection(part if sink is None else SINKS_PART, sink or source, facts, reason, since, numbers)


def encode_letter(letter: DeadLetter, view: LetterView = PLAIN) -> bytes:
    """The letter as a JSON object, times in Unix seconds; its part's ``view`` writes the members at the end."""
    common = msgspec.json.encode(
        {
            "number": letter.number,
            "part": letter.source.part,
            "source": letter.source.name,
            "reason": letter.reason,
            "attempts": letter.attempts,
            "rejected_at": letter.rejected_at,
            "received_at": letter.received_at,
        }
    )
    # Joined from ready bytes: decoding a payload could change its numbers.
    return common[:-1] + b"," + msgspec.json.encode(view.members(letter))[1:]


def encode_line(letter: DeadLetter, view: LetterView = PLAIN) -> bytes:
    """The letter as `encode_letter` writes it, on one line."""
    # Inside a JSON string a line break is escaped. So each raw one stands between tokens, where a space means the same.
    return encode_letter(letter, view).replace(b"\n", b" ").replace(b"\r", b" ")


def summarize(outcomes: Sequence[Replayed]) -> dict[str, Any]:
    """The result of a replay as JSON values: the sums, and the counts of each source, such as a sink."""
    return {
        "delivered": sum(outcome.delivered for outcome in outcomes),
        "refused": sum(outcome.refused for outcome in outcomes),
        "left": sum(outcome.left for outcome in outcomes),
        "sinks": [
            {
                "part": outcome.source.part,
                "sink": outcome.source.name,
                "delivered": outcome.delivered,
                "refused": outcome.refused,
                "left": outcome.left,
                "stopped": outcome.stopped or None,
            }
            for outcome in outcomes
        ],
    }
