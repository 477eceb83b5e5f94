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
from hermes.dead_letters.contract import DeadLetter
from hermes.dead_letters.events import to_event
from hermes.dead_letters.replay import Replayed

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


def encode_letter(letter: DeadLetter) -> bytes:
    """The letter of an event as a JSON object, times in Unix seconds.

    The field ``event`` can be sent to ``POST /events`` again.
    """
    # The event's payload is `Raw`, so its bytes are copied: to decode it could change its numbers.
    return msgspec.json.encode(
        {
            "number": letter.number,
            "sink": letter.source.name,
            "reason": letter.reason,
            "attempts": letter.attempts,
            "rejected_at": letter.rejected_at,
            "received_at": letter.received_at,
            "event": to_event(letter),
        }
    )


def encode_line(letter: DeadLetter) -> bytes:
    """The letter as `encode_letter` writes it, on one line."""
    # Inside a JSON string a line break is escaped. So each raw one stands between tokens, where a space means the same.
    return encode_letter(letter).replace(b"\n", b" ").replace(b"\r", b" ")


def summarize(outcomes: Sequence[Replayed]) -> dict[str, Any]:
    """The result of a replay as JSON values: the sums, and each sink's counts."""
    return {
        "delivered": sum(outcome.delivered for outcome in outcomes),
        "refused": sum(outcome.refused for outcome in outcomes),
        "left": sum(outcome.left for outcome in outcomes),
        "sinks": [
            {
                "sink": outcome.source.name,
                "delivered": outcome.delivered,
                "refused": outcome.refused,
                "left": outcome.left,
                "stopped": outcome.stopped or None,
            }
            for outcome in outcomes
        ],
    }
