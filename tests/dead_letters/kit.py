"""What the tests of dead letters share: letters, reading a store whole, and three stores under one name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from hermes.dead_letters import DeadLetter, DeadLetters, Selection
from hermes.events.letters import PART, to_event, to_letter
from hermes.testing import make_event

REJECTED_AT = 1_700_000_100.5
ARRIVED_AT = 1_700_000_001.25
EVERYTHING = Selection()

OpenStore = Callable[[int], AbstractAsyncContextManager[DeadLetters]]
"""Opens a store that keeps so many letters; opened again, a durable one has what was left in it."""


def make_letter(
    n: int = 0,
    *,
    sink: str = "fake",
    reason: str = "no",
    attempts: int = 1,
    rejected_at: float = REJECTED_AT,
    received_at: float = ARRIVED_AT,
    **event: Any,
) -> DeadLetter:
    """The letter of event ``event-n``; the other arguments are those of `make_event`."""
    given = make_event(f"event-{n}", **event)
    return to_letter(given, sink, reason, attempts, rejected_at=rejected_at, received_at=received_at)


def select_events(
    sink: str | None = None,
    type: str | None = None,  # noqa: A002 - the field's own name
    reason: str | None = None,
    since: float | None = None,
    numbers: Sequence[int] | None = None,
) -> Selection:
    """The letters of events that match everything that is given; without an argument, all letters of events."""
    facts = {} if type is None else {"type": type}
    return Selection(PART, sink, facts, reason, since, numbers)


async def everything(store: DeadLetters, selection: Selection = EVERYTHING) -> list[DeadLetter]:
    """All letters that match, page by page."""
    letters: list[DeadLetter] = []
    while page := await store.page(selection, after=letters[-1].number if letters else 0, limit=7):
        letters += page
    return letters


async def ids(store: DeadLetters, selection: Selection = EVERYTHING) -> list[str]:
    """Their events' ids, in order."""
    return [to_event(letter).id for letter in await everything(store, selection)]
