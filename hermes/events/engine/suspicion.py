"""Decides whether a refusal is the fault of the refused events, or of the sink that refuses nearly everything. Pure.

A column that became NOT NULL, a trigger that fails, or a changed format refuses every event for one and the same
reason. To make dead letters of all these events would empty the journal into a bounded store. So:

- a write of which `NEARLY` all is refused for one reason adds to a row of refusals; any other write that stores
  something ends the row;
- once the row has ``rows`` events, the sink is under suspicion: such refusals are a failure of the sink, and their
  events are held;
- a write that stores something while events are held is a witness: the sink works, so an event that was refused before
  and is refused again is at fault itself. The next row for that reason has to be longer, `_HARDER` times each time;
- after ``hold`` seconds without a witness the events are released: refusals make dead letters until a write succeeds.

Invariant: whatever the sink does, a refused event is held for ``hold`` seconds at most, from the beginning of the
suspicion on.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

NEARLY = 0.95
"""The share of a write that has to be refused for one reason."""

_HARDER = 10
_HARDEST = 100
_MOST_KINDS = 20
# Characters of a reason that make its kind.
_MOST_WORDS = 300
# Different reasons that are looked at, some 5 ms of the loop: to find the kind of 10,000 took 114 ms.
_MOST_REASONS = 500
# Values of single events: words in quotes, and numbers.
_VALUE = re.compile(r""""[^"]*"|'[^']*'|\d+""")


class Suspicion:
    """Watches the refusals of one sink. A ``hold`` of 0 holds nothing.

    >>> suspicion = Suspicion(rows=2, hold=60)
    >>> suspicion.accuse({0: "no column x"}, total=1, now=0, held_at=None)  # one event: its own fault
    False
    >>> suspicion.accuse({0: "no column x"}, total=1, now=1, held_at=None)  # two in a row: the sink's
    True
    >>> suspicion.wrote()  # something is stored: a witness
    >>> suspicion.accuse({0: "no column x"}, total=1, now=2, held_at=0)  # refused before, and again
    False
    """

    def __init__(self, rows: int, hold: float) -> None:
        self.witnesses = 0
        """Writes that have stored something."""
        self.reason = ""
        """The words of the refusals in the present row, without the values of any event."""
        self.since: float | None = None
        """When the suspicion began; None: there is none."""
        self.released = False
        """Whether the suspicion has lasted too long, so that nothing is held any more."""
        self._rows = rows
        self._hold = hold
        self._row = 0
        self._harder: dict[str, int] = {}

    @property
    def holding(self) -> bool:
        """Whether events are held now."""
        return self.since is not None and not self.released

    def wrote(self) -> None:
        """Note that a write has stored something."""
        self.witnesses += 1
        self._row = 0
        # The accused sink works, so the suspicion was wrong: the next for this reason needs a longer row. Bounded,
        # since a reason is free text of the sink.
        if self.since is not None:
            # The kind whose suspicion was wrong longest ago goes first: the line below puts each to the end.
            while len(self._harder) >= _MOST_KINDS:
                del self._harder[next(iter(self._harder))]
            self._harder[self.reason] = min(_HARDEST, self._harder.pop(self.reason, 1) * _HARDER)
        self.since, self.released = None, False

    def release(self) -> None:
        """Hold nothing any more, until a write has stored something."""
        self.released = True

    def accuse(self, reasons: Mapping[int, str], total: int, now: float, held_at: int | None) -> bool:
        """Of ``total`` events some were refused for ``reasons``: whether that is the sink's fault.

        ``held_at`` is the number of `witnesses` when these events were first held, None if they were not. ``now`` is in
        seconds, of any clock.
        """
        kind, count = _most_common(reasons)
        if self._is_mixed(reasons, count, total):
            return False
        # A witness since the events were first held: the sink works, and refuses these for their own fault.
        if not self._hold or (held_at is not None and self.witnesses > held_at):
            return False
        if kind != self.reason:
            self.reason, self._row = kind, 0
        # A held event that is tried again is no new refusal.
        if held_at is None:
            self._row += count
        if self.since is None:
            if self._row < self._rows * self._harder.get(kind, 1):
                return False
            self.since = now
        # Nothing is held for longer, whatever the sink does: a hold without an end would fill the journal.
        self.released = self.released or now - self.since >= self._hold
        return not self.released

    def accuse_again(self, reasons: Mapping[int, str], total: int) -> bool:
        """The same as `accuse`, of dead letters that are written again: these begin no suspicion, but may end one."""
        _, count = _most_common(reasons)
        return not self._is_mixed(reasons, count, total) and self.holding and len(reasons) == total

    def _is_mixed(self, reasons: Mapping[int, str], most_common: int, total: int) -> bool:
        """Whether a refusal speaks of single events; if other events of the write were stored, it is a witness."""
        if most_common >= NEARLY * total:
            return False
        if len(reasons) < total:
            self.wrote()
        return True


def _most_common(reasons: Mapping[int, str]) -> tuple[str, int]:
    """The most common reason, without the values of single events, and how many have it.

    Of more than `_MOST_REASONS` that differ, a sample in even steps stands for all.
    """
    if not reasons:
        return "", 0
    # Counted before the values are taken out, which costs more: many reasons are the same to the letter.
    different = list(Counter(reason[:_MOST_WORDS] for reason in reasons.values()).items())
    sample = different[:: -(-len(different) // _MOST_REASONS)]
    kinds: Counter[str] = Counter()
    for words, count in sample:
        kinds[_VALUE.sub("…", words)] += count
    kind, count = kinds.most_common(1)[0]
    return kind, count * len(reasons) // kinds.total()
