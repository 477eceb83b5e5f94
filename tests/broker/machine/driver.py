"""A machine and a log, an entry at a time, with the words of a client."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hermes.broker.machine import commands as c
from hermes.broker.machine.machine import Delivery, Machine, Reply
from hermes.broker.machine.snapshot import dump, restore

Restart = Callable[["Driver"], Machine]


def no_restart(driver: Driver) -> Machine:
    return driver.machine


def restart_from_snapshot(driver: Driver) -> Machine:
    return restore(b"".join(dump(driver.machine)))


def restart_from_log(driver: Driver) -> Machine:
    machine = Machine()
    for index, entry in enumerate(driver.log):
        machine.apply(index, entry)
    return machine


class Driver:
    """Applies each command in an entry of its own, and then restarts as ``restart`` does."""

    def __init__(self, restart: Restart = no_restart) -> None:
        self.machine = Machine()
        self.log: list[c.Entry] = []
        self.now_ms = 1000
        self._restart = restart

    def apply(self, *commands: c.AnyCommand) -> list[Reply]:
        entry = c.decode_entry(c.encode_entry(c.Entry(self.now_ms, commands)))
        replies = self.machine.apply(len(self.log), entry)
        self.log.append(entry)
        self.machine = self._restart(self)
        return replies

    def produce(self, topic: str = "t", payload: bytes = b"x", **fields: Any) -> Reply:
        return self.apply(c.Produce(topic, payload, **fields))[0]

    def poll(
        self, group: str = "g", most: int = 10, visibility_ms: int = 30_000, *, auto: bool = False, topic: str = "t"
    ) -> list[Delivery]:
        reply = self.apply(c.Poll(topic, group, most, visibility_ms, auto))[0]
        assert isinstance(reply, list)
        return [each for each in reply if isinstance(each, Delivery)]

    def offsets(self, group: str = "g", most: int = 10, **options: Any) -> list[int]:
        return [each.offset for each in self.poll(group, most, **options)]

    def ack(self, *deliveries: Delivery, group: str = "g", topic: str = "t") -> None:
        assert self.apply(c.Ack(topic, group, tuple(each.lease_id for each in deliveries))) == [None]

    def nack(self, *deliveries: Delivery, group: str = "g", topic: str = "t") -> None:
        assert self.apply(c.Nack(topic, group, tuple(each.lease_id for each in deliveries))) == [None]

    def commit(self, offset: int, group: str = "g", topic: str = "t") -> None:
        assert self.apply(c.Commit(topic, group, offset)) == [None]
