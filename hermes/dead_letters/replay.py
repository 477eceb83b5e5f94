"""Sends dead letters to their sources again: for events, to the sinks that refused them.

    page of letters → write of the source's target ┬ taken: the letters are removed
                                                   ├ refused: the letters stay, with the new reason
                                                   └ unavailable: the source's turn is over

Invariant: a letter leaves the store only after its target has written it, so a crash loses no letter; at worst a
letter is written twice, and a sink stores each event's id once. A run ends: each letter that was in the store when the
run began is tried once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import trio

from hermes.base.cleanup import clean_up
from hermes.base.errors import BatchRejected, LogUnavailable, SinkUnavailable
from hermes.dead_letters.contract import SINKS_PART, DeadLetter, DeadLetters, Selection, Source

NO_SINK = "no sink of this name is configured"
"""Why the letters of a sink that this process does not have were not tried."""

NOTE_SECONDS = 60.0
"""The longest time for writing the result of a batch to the store. A cancelled caller waits this long."""

# With a rate, a batch has the letters of this time: larger batches would come in bursts.
_PACED_SECONDS = 0.1
_NO_PART = "the part {} replays no letters here: only a service that runs this part may do so"


@dataclass(frozen=True, slots=True)
class Target:
    """The receiver of a source's letters. ``write`` keeps the contract of `hermes.Sink.write`, but takes letters.

    >>> async def write(letters: Sequence[DeadLetter]) -> None:
    ...     print(len(letters), "letters")
    >>> Target(write, max_batch=500).max_batch
    500
    """

    write: Callable[[Sequence[DeadLetter]], Awaitable[None]]
    max_batch: int
    """The most letters of one write."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """The counts of one source's letters in a replay; ``left`` were not tried.

    >>> Replayed(Source("events", "postgres"), left=2, delivered=3, stopped="no answer in time").refused
    0
    """

    source: Source
    left: int
    delivered: int = 0
    refused: int = 0
    stopped: str = ""
    """Why some letters were not tried; empty if all were tried or the caller set a bound."""


class Pace:
    """Spaces out writes so that at most ``rate`` events a second go; without a rate, no limit.

    >>> Pace(50).limit(500), Pace(None).limit(500)
    (5, 500)
    """

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        # A moment of the past on Trio's clock: the first batch goes at once.
        self._next = 0.0

    def limit(self, most: int) -> int:
        """How many of ``most`` events may go at once, at least one."""
        # At least one: `replay` takes a page without letters for the end, and a slow rate would replay nothing.
        return most if self._rate is None else max(1, min(most, int(self._rate * _PACED_SECONDS)))

    async def wait(self, count: int) -> None:
        """Return when ``count`` events may go."""
        now = trio.current_time()
        if self._rate is not None:
            await trio.sleep_until(self._next)
            # Counted from now if the sink was slow: the time that it lost is not made up by a burst.
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
    """Write the letters that match to their targets, one source after the other; return the counts of each source.

    ``rate`` is the most letters a second, ``most`` the most letters of this run; ``dry_run`` only counts. When a sink
    is unavailable, the run goes on with the next source. ``on_progress`` is called before a source's first write and
    after each write.

    Raises `hermes.LogUnavailable` when the store fails. The next run writes letters again that were delivered and not
    yet removed.

    >>> from hermes.dead_letters import MemoryDeadLetters
    >>> trio.run(replay, MemoryDeadLetters(1000), Selection("events"), {})
    []
    """
    # Letters that come while the run goes on are left for the next run, so that this one ends.
    last = await store.last()
    selection = replace(selection, up_to=last if selection.up_to is None else min(last, selection.up_to))
    pace = Pace(rate)
    outcomes = []
    for source, count in (await store.count(selection)).items():
        outcome = Replayed(source, count)
        target = targets.get(source)
        if target is None:
            # The letters stay, for a run in which the sink is configured.
            outcome = replace(outcome, stopped=NO_SINK if source.part == SINKS_PART else _NO_PART.format(source.part))
        elif not dry_run:
            # Before the first write: `hermes dlq replay` draws the bar of a source with the number of its letters.
            on_progress(outcome)
            run = _Run(store, replace(selection, part=source.part, name=source.name), target, pace, on_progress)
            outcome = await run.go(outcome, most)
            # The bound is one for the whole run, across sources.
            most = None if most is None else most - outcome.delivered - outcome.refused
        outcomes.append(outcome)
    return outcomes


@dataclass(frozen=True, slots=True)
class _Run:
    """The replay of one source's letters."""

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
                # `left` came from a count before the run. Letters that somebody else removed meanwhile are not left.
                return replace(outcome, left=0)
            # By number, not by what is still there: letters that are refused again stay, and would be met again.
            after = letters[-1].number
            await self.pace.wait(len(letters))
            try:
                refused = await self._write(letters)
            # `left` still counts this batch, for nobody knows whether the sink has stored any of the batch.
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
        """Write letters and keep the result in the store; return how many were refused again."""
        reasons: Mapping[int, str] = {}
        try:
            await self.target.write(letters)
        except BatchRejected as error:
            unknown = [index for index in error.reasons if not 0 <= index < len(letters)]
            if unknown:
                # A bug of the sink: nobody knows which events it stored. So no letter is removed.
                raise ValueError(
                    f"sink {self.selection.name!r} rejected index {unknown[0]} of {len(letters)} events"
                ) from error
            reasons = error.reasons
        # Shielded: without the removal the next run writes the letters again, and not every sink stores an id once.
        with clean_up(NOTE_SECONDS) as scope:
            await self._note_outcomes(letters, reasons)
        # A store that hangs must not hold the caller for ever. The letters stay, and the caller is told.
        if scope.cancelled_caught:
            raise LogUnavailable(f"the store of dead letters did not answer within {NOTE_SECONDS:g} s")
        return len(reasons)

    async def _note_outcomes(self, letters: Sequence[DeadLetter], reasons: Mapping[int, str]) -> None:
        # Removal first: of the two it is the one that keeps a letter from being written again.
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
