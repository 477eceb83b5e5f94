"""How dead letters are asked for and shown, on the command line and over HTTP alike. Pure.

Invariant: a payload is shown as its own bytes; only in a line of JSON the line breaks between its tokens become spaces.
Called by ``hermes dlq`` and by ``/dead-letters``.
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

_SECONDS = re.compile(r"\d{1,12}(?:\.\d{1,9})?", re.ASCII)
_LONGEST = 100  # characters


def parse_since(text: str, now: float) -> float:
    """Unix seconds of a moment, written as `SINCE` says; ``now`` in Unix seconds. An ISO time without a zone is UTC.

    Raises ValueError, whose words complete "expected …".
    """
    if len(text) > _LONGEST:  # the search for a duration in it would take its square
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
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()


def format_time(seconds: float) -> str:
    """A time in Unix seconds as people read it: UTC, to the second."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def encode_letter(letter: DeadLetter) -> bytes:
    """The letter of an event as a JSON object, times in Unix seconds.

    The event is inside, as it would be sent to ``POST /events``.
    """
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
    """The same on one line: in JSON text line breaks stand between tokens alone, where a space means the same."""
    return encode_letter(letter).replace(b"\n", b" ").replace(b"\r", b" ")


def summarize(outcomes: Sequence[Replayed]) -> dict[str, Any]:
    """What became of a replay: the sums, and each sink's part."""
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
