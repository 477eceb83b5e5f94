"""Takes the dead letters of the machine to the store of the service's dead letters, and replays them from there.

Invariants: a letter stays in the machine until the store has it, so a crash loses none; a letter that was stored twice
replaces itself.
"""

from __future__ import annotations

from collections.abc import Sequence

import structlog
import trio

from hermes.base.errors import BatchRejected, HermesError, SinkUnavailable
from hermes.broker.machine.commands import Bury, Produce
from hermes.broker.machine.machine import DeadLetter as DeadMessage
from hermes.broker.sequencer import Sequencer, commit_all
from hermes.dead_letters import DeadLetter, Source
from hermes.dead_letters.contract import DeadLetters, Fact

_log = structlog.get_logger("hermes.broker")

SOURCE = Source("broker", "messages")
"""The source of every dead letter of the broker; the topic and the group are facts."""

# With payloads of a mebibyte each, still less than the store takes at once.
_AT_ONCE = 100
_LOOK_SECONDS = 0.2
# A store that is away is tried again soon: few letters may wait.
_PAUSE_SECONDS = 5.0


class Burial:
    """Moves dead letters. ::

    nursery.start_soon(Burial(sequencer, desk.store).run)
    """

    def __init__(self, sequencer: Sequencer, store: DeadLetters) -> None:
        self._sequencer = sequencer
        self._store = store

    async def run(self) -> None:
        """Move letters until cancelled."""
        while True:
            if not self._sequencer.machine.dead:
                # Looked at, not told: a dead letter is rare, and the machine calls nobody.
                await trio.sleep(_LOOK_SECONDS)
                continue
            try:
                await self.move_some()
            except HermesError as error:
                _log.error("dead letters of the broker cannot be stored", reason=str(error))
                await trio.sleep(_PAUSE_SECONDS)

    async def move_some(self) -> None:
        """Move the oldest letters. Raises `LogUnavailable`."""
        dead = dict(list(self._sequencer.machine.dead.items())[:_AT_ONCE])
        letters = [await self._letter(message) for message in dead.values()]
        # Before the machine forgets them: after a crash between the two the store replaces letters by the same ones.
        await self._store.add(letters)
        await commit_all(self._sequencer, [Bury(tuple(dead))])

    async def _letter(self, dead: DeadMessage) -> DeadLetter:
        message = dead.message
        facts: dict[str, Fact] = {
            "topic": _fact(dead.topic),
            "group": _fact(dead.group),
            "offset": dead.offset,
            "priority": message.priority,
            "content_type": message.content_type,
        }
        return DeadLetter(
            SOURCE,
            facts,
            await self._sequencer.payloads.load(message),
            dead.reason,
            dead.attempts,
            rejected_at=dead.time_ms / 1000,
            received_at=message.time_ms / 1000,
        )

    async def replay(self, letters: Sequence[DeadLetter]) -> None:
        """Store the messages of letters in their topics again. Raises `BatchRejected`, `SinkUnavailable`."""
        commands = [
            Produce(str(facts["topic"]), letter.body, int(facts["priority"]), int(facts["content_type"]))
            for letter in letters
            for facts in (letter.facts,)
        ]
        try:
            replies = await commit_all(self._sequencer, commands)
        except HermesError as error:
            # All of them again, later. Some may be stored already: a letter is replayed at least once.
            raise SinkUnavailable(f"the broker's log takes no entry: {error}") from error
        refused = [place for place, reply in enumerate(replies) if not isinstance(reply, int)]
        if refused:
            raise BatchRejected(dict.fromkeys(refused, "the broker has as many topics as it may have"))


def _fact(name: str) -> str:
    """A name as a fact, in which U+0000 is not allowed."""
    return name.replace("\0", "\ufffd")
