"""The dead letters of all parts: the shared store, and the targets to which letters can be replayed now.

Invariant: a letter is replayed through the part that owns the letter, while this part runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType

import msgspec

from hermes.dead_letters.contract import DeadLetter, DeadLetters, Source
from hermes.dead_letters.notation import encode_letter
from hermes.dead_letters.replay import Target
from hermes.dead_letters.view import PLAIN, LetterView


class DeadLettersStatus(msgspec.Struct, frozen=True):
    """The dead letters of all parts, since the start."""

    added: int
    """Letters that were added; a letter that was refused again has replaced its older letter."""
    evicted: int
    """Letters that made room for newer ones."""


class DeadLetterDesk:
    """The shared ``store``, and the ``targets`` to which letters can be replayed now, by source.

    ``views`` say how the letters of a part are shown, by its name; those of other parts are shown plainly.

    ::

        @asynccontextmanager
        async def open_jobs(settings: object, core: Core) -> AsyncIterator[RunningPart]:
            desk: DeadLetterDesk = core.needed["dead_letters"]
            with desk.replaying_to({Source("jobs", "emails"): Target(run_again, max_batch=100)}):
                yield RunningPart()
    """

    def __init__(
        self,
        store: DeadLetters,
        # Read-only: Python makes a default once, and all desks share the object.
        targets: Mapping[Source, Target] = MappingProxyType({}),
        views: Mapping[str, LetterView] = MappingProxyType({}),
    ) -> None:
        self.store = store
        self.views = views
        # A copy, because `replaying_to` adds to the targets and removes some.
        self._targets = {**targets}

    @property
    def targets(self) -> Mapping[Source, Target]:
        """The targets to which letters can be replayed now."""
        return self._targets

    def encode(self, letter: DeadLetter) -> bytes:
        """The letter as JSON, in the words of its part."""
        return encode_letter(letter, self.views.get(letter.source.part, PLAIN))

    @contextmanager
    def replaying_to(self, targets: Mapping[Source, Target]) -> Iterator[None]:
        """Replay the letters of these sources to these targets until the end of the block."""
        self._targets |= targets
        try:
            yield
        finally:
            # The part ends: its letters stay, and a replay says that their sink is not configured.
            for source in targets:
                del self._targets[source]
