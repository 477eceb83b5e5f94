"""The desk of the dead letters: the store that all parts share, and where the letters of each part can be replayed to.

Invariant: the desk replays no letter itself; a letter goes again through the part that owns it, while this part runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import msgspec

from hermes.dead_letters.contract import DeadLetters, Source
from hermes.dead_letters.replay import Target


class DeadLettersStatus(msgspec.Struct, frozen=True):
    """The dead letters of all parts, since the start."""

    added: int
    """Letters that came; one that was refused again took the place of its older letter."""
    evicted: int
    """Letters that made room for newer ones."""


class DeadLetterDesk:
    """``store`` is where parts put letters; ``targets`` are where letters can be replayed to now, by source.

    ::

        desk: DeadLetterDesk = core.needed["dead_letters"]
        with desk.replaying_to({Source("jobs", "emails"): Target(run_again, most_at_once)}):
            yield RunningPart()
    """

    def __init__(self, store: DeadLetters, targets: Mapping[Source, Target] = MappingProxyType({})) -> None:
        self.store = store
        self._targets = {**targets}

    @property
    def targets(self) -> Mapping[Source, Target]:
        """Where letters can be replayed to now."""
        return self._targets

    @contextmanager
    def replaying_to(self, targets: Mapping[Source, Target]) -> Iterator[None]:
        """Replay the letters of these sources to these targets until the end of the block."""
        self._targets |= targets
        try:
            yield
        finally:
            for source in targets:
                del self._targets[source]
