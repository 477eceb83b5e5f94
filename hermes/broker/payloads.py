"""The payloads of messages: the latest ones in memory, the others in the log.

Invariants: the memory is bounded by `most_bytes` and one entry; the entries of a message that is being delivered are
not trimmed from the log (`pin`).
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

from hermes.base.errors import LogDamaged
from hermes.broker.machine.commands import AnyCommand, Forward, Produce, decode_entry
from hermes.broker.machine.messages import Message
from hermes.store.log import Log

_READ_BYTES = 2**20
"""How much is read at once: who reads old messages mostly reads on."""
_COMMAND_BYTES = 200  # of an object, beside its payload


class Payloads:
    """A cache of the log's entries.

    ::

        payloads.keep(index, entry.commands)
        payload = payloads.find(message)
        if payload is None:
            payload = await payloads.load(message)
    """

    def __init__(self, log: Log, most_bytes: int) -> None:
        self._log = log
        self._most = most_bytes
        # By index; the entry that came first leaves first.
        self._entries: OrderedDict[int, Sequence[AnyCommand]] = OrderedDict()
        self._bytes = 0
        self._pinned: Counter[int] = Counter()

    def keep(self, index: int, commands: Sequence[AnyCommand]) -> None:
        """Keep the entry at ``index`` for a while, if a command in it has a payload."""
        size = _size(commands)
        # Only a message leads to an entry, and an entry without a payload has none.
        if not size or index in self._entries:
            return
        self._entries[index] = commands
        self._bytes += size
        # One stays, however large: a subscription that waits is sent its messages next.
        while self._bytes > self._most and len(self._entries) > 1:
            _, dropped = self._entries.popitem(last=False)
            self._bytes -= _size(dropped)

    def find(self, message: Message) -> bytes | None:
        """The payload if it is in memory."""
        commands = self._entries.get(message.record)
        return None if commands is None else _payload(commands, message)

    async def load(self, message: Message) -> bytes:
        """The payload, from the log if need be. Raises `LogUnavailable`, and `LogDamaged` if it is gone."""
        payload = self.find(message)
        if payload is not None:
            return payload
        wanted: Sequence[AnyCommand] | None = None
        for record in await self._log.read(message.record, max_bytes=_READ_BYTES):
            commands = decode_entry(record.data).commands
            # The log passes over lost records, so the first one that it gives may be a later one.
            if record.index == message.record:
                wanted = commands
            self.keep(record.index, commands)
        if wanted is None:
            raise LogDamaged(f"the broker's log lacks record {message.record}, which holds a message")
        # Not by `find`: what was read on may have pushed it out again.
        return _payload(wanted, message)

    async def load_all(self, messages: Sequence[Message]) -> list[bytes]:
        """The payloads of messages, in their order. Raises as `load`."""
        found = []
        for message in messages:
            payload = self.find(message)
            # One after the other: a read of the log brings the payloads that follow into memory.
            found.append(await self.load(message) if payload is None else payload)
        return found

    def pin(self, messages: Sequence[Message]) -> None:
        """Keep the entries of these messages in the log, until `unpin`."""
        # Counted, since messages of one entry may be on their way to several clients.
        self._pinned.update(message.record for message in messages)

    def unpin(self, messages: Sequence[Message]) -> None:
        """Give up a `pin`."""
        for message in messages:
            self._pinned[message.record] -= 1
            # A counter keeps a key at 0, and `lowest_pinned` would find it.
            if not self._pinned[message.record]:
                del self._pinned[message.record]

    @property
    def lowest_pinned(self) -> int | None:
        """The lowest index that is pinned."""
        return min(self._pinned, default=None)


def _payload(commands: Sequence[AnyCommand], message: Message) -> bytes:
    produce = _produce(commands[message.place])
    if produce is None:
        raise LogDamaged(f"the broker's log has no message at record {message.record}, place {message.place}")
    return produce.payload


def _produce(command: AnyCommand) -> Produce | None:
    if type(command) is Produce:
        return command
    return command.produce if type(command) is Forward else None


def _size(commands: Sequence[AnyCommand]) -> int:
    payloads = [len(produce.payload) for produce in map(_produce, commands) if produce is not None]
    return sum(payloads) + _COMMAND_BYTES * len(payloads)
