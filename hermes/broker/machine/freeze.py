"""The topics of a machine as they were at one moment, while the machine goes on.

Invariant: a topic is copied at most once: before the first command that changes the topic, or in its turn. So a freeze
costs nothing at once, however many topics there are, and then a topic at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from hermes.broker.machine.commands import AnyCommand, Forward
from hermes.broker.machine.topic import Topic


class Freeze:
    """The topics of one moment, each to be had once.

    >>> topics = {"orders": Topic(), "bills": Topic()}
    >>> freeze = Freeze(topics)
    >>> freeze.keep("orders")
    >>> topics["orders"].join("billing", 0) is topics.pop("orders").group("billing")
    True
    >>> [(name, list(topic.groups)) for name, topic in freeze]
    [('orders', []), ('bills', [])]
    """

    def __init__(self, topics: Mapping[str, Topic]) -> None:
        # Names and dict are copies: topics come and go in the machine, and `keep` takes each out that it has copied.
        self._names = tuple(topics)
        # The machine's own topics, until each is copied.
        self._topics = dict(topics)
        self._copies: dict[str, Topic] = {}

    def keep(self, name: str) -> None:
        """Copy the topic of this name, which is about to change, unless there is a copy."""
        topic = self._topics.pop(name, None)
        if topic is not None:
            self._copies[name] = topic.copy()

    def keep_all(self, commands: Iterable[AnyCommand]) -> None:
        """Copy each topic that these commands may change."""
        for command in commands:
            for name in (getattr(command, "topic", None), command.produce.topic if type(command) is Forward else None):
                if name in self._topics:
                    self.keep(name)

    def __iter__(self) -> Iterator[tuple[str, Topic]]:
        """Yield the name and a copy of each topic. The machine may apply commands between two of them."""
        for name in self._names:
            self.keep(name)
            # Out of the dict: the memory of a copy is free once its reader is done with the topic.
            yield name, self._copies.pop(name)
