"""Sending dead letters to their sources again: for events, to the sinks that refused them.

    page of letters → write of the source's target ┬ taken: the letters are removed
                                                   ├ refused: they stay, with the new reason
                                                   └ unavailable: the source's turn is over

Invariant: a letter leaves the store only after its target has it, so a crash anywhere loses nothing; at worst a
letter is written twice, and a sink stores each event's id once. A run ends: it takes the letters that were there when
it began, each once. Called by ``hermes dlq replay`` and by ``POST /dead-letters/replay``.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from hermes.cleanup import clean_up
from hermes.dead_letters.contract import DeadLetter, DeadLetters, Selection, Source
from hermes.errors import BatchRejected, LogUnavailable, SinkUnavailable

SETTLE_SECONDS = 60.0
"""Longest that noting what became of a batch may take; a caller that is cancelled waits for it."""

_PACED_SECONDS = 0.1  # with a rate, a batch is what may go in this time
_NO_SINK = "no sink of this name is configured"


@dataclass(frozen=True, slots=True)
class Target:
    """Where the letters of a source go. ``write`` keeps the contract of `hermes.Sink.write`, of letters."""

    write: Callable[[Sequence[DeadLetter]], Awaitable[None]]
    max_batch: int
    """The most letters of one write."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What became of the letters of one source; ``left`` were not tried."""

    source: Source
    left: int
    delivered: int = 0
    refused: int = 0
    stopped: str = ""
    """Why the source's letters were not all tried, if it was not the caller's wish."""


class Pace:
    """When how many events may go, at ``rate`` a second (None: any number at any time). Times are Trio's."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._next = 0.0

    def limit(self, most: int) -> int:
        """How many of ``most`` events may go at once, at least one."""
        return most if self._rate is None else max(1, min(most, int(self._rate * _PACED_SECONDS)))

    async def wait(self, count: int) -> None:
        """Return when ``count`` events may go."""
        now = trio.current_time()
        if self._rate is not None:
            await trio.sleep_until(self._next)
            self._next = max(now, self._next) + count / self._rate


async def replay(
    store: DeadLetters,
    selection: Selection,
    targets: Mapping[Source, Target],
    *,
    rate: float | None = None,
    most: int | None = None,
    dry_run: bool = False,
    on_progress: Callable[[Replayed], None] = lambda _replayed: None,
) -> list[Replayed]:
    """Write the letters that match to their targets, one source after the other; return what became of them, by source.

    ``rate`` is the most letters a second, ``most`` the most letters of this run; ``dry_run`` only counts. A sink that
    is unavailable ends its own letters' turn. ``on_progress`` hears of a source before its first write and after each.

    Raises `hermes.LogUnavailable` when the store fails; what was delivered and not yet removed is written again by the
    next run.
    """
    last = await store.last()
    selection = replace(selection, up_to=last if selection.up_to is None else min(last, selection.up_to))
    pace = Pace(rate)
    outcomes = []
    for source, count in (await store.count(selection)).items():
        outcome = Replayed(source, count)
        target = targets.get(source)
        if target is None:
            outcome = replace(outcome, stopped=_NO_SINK)
        elif not dry_run:
            on_progress(outcome)
            run = _Run(store, replace(selection, part=source.part, name=source.name), target, pace, on_progress)
            outcome = await run.go(outcome, most)
            most = None if most is None else most - outcome.delivered - outcome.refused
        outcomes.append(outcome)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Run:
    """The letters of one sink on their way."""

    store: DeadLetters
    selection: Selection
    target: Target
    pace: Pace
    on_progress: Callable[[Replayed], None]

    async def go(self, outcome: Replayed, most: int | None) -> Replayed:
        limit = self.pace.limit(self.target.max_batch)
        after = 0
        while most is None or most > 0:
            letters = await self.store.page(
                self.selection, after=after, limit=limit if most is None else min(limit, most)
            )
            if not letters:
                return replace(outcome, left=0)  # what others have removed meanwhile is not left
            after = letters[-1].number
            await self.pace.wait(len(letters))
            try:
                refused = await self._write(letters)
            except SinkUnavailable as error:
                return replace(outcome, stopped=str(error))
            if most is not None:
                most -= len(letters)
            outcome = replace(
                outcome,
                left=max(0, outcome.left - len(letters)),
                delivered=outcome.delivered + len(letters) - refused,
                refused=outcome.refused + refused,
            )
            self.on_progress(outcome)
        return outcome

    async def _write(self, letters: Sequence[DeadLetter]) -> int:
        """Write letters and note what became of them; return how many were refused again."""
        reasons: Mapping[int, str] = {}
        try:
            await self.target.write(letters)
        except BatchRejected as error:
            strangers = [index for index in error.reasons if not 0 <= index < len(letters)]
            if strangers:  # a bug of the sink, and nobody knows what it has stored
                raise ValueError(
                    f"sink {self.selection.name!r} rejected index {strangers[0]} of {len(letters)} events"
                ) from error
            reasons = error.reasons
        # Shielded: what is written now would be written again, and not every sink can tell.
        with clean_up(SETTLE_SECONDS) as scope:
            await self._settle(letters, reasons)
        if scope.cancelled_caught:
            raise LogUnavailable(f"the store of dead letters did not answer within {SETTLE_SECONDS:g} s")
        return len(reasons)

    async def _settle(self, letters: Sequence[DeadLetter], reasons: Mapping[int, str]) -> None:
        written = [letter.number for index, letter in enumerate(letters) if index not in reasons]
        if written:
            await self.store.remove(Selection(numbers=written))
        if reasons:
            now = time.time()
            await self.store.amend(
                [
                    replace(letters[index], reason=reason, attempts=letters[index].attempts + 1, rejected_at=now)
                    for index, reason in sorted(reasons.items())
                ]
            )
