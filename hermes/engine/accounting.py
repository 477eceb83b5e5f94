"""The books of a running service: what became of every accepted event, in every sink.

    accepted = delivered + dead-lettered + evicted + spilled + dropped + in flight      for every sink, at every moment

Invariant: after a drain nothing is in flight. Each part is counted by itself, where its events are, and `Books.audit`
says whether they add up: the equation of every sink, what the journal owes against what was spilled, what it keeps
against what somebody needs, and the requests that wait for a delivery against the deliveries. Shown by
``GET /debug/accounting`` and, sink by sink, by the log at the end of a run. Asked by the app and by the edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from hermes.engine.delivery import Delivery
from hermes.engine.intake import Intake
from hermes.engine.journal import EventJournal
from hermes.engine.ledger import Account

_log = structlog.get_logger("hermes")


@dataclass(frozen=True)
class Books:
    """Reads the parts of an engine; changes nothing but by `close`."""

    intake: Intake
    deliveries: Sequence[Delivery]
    journal: EventJournal | None

    def show(self) -> dict[str, object]:
        """The accounts as of now and the journal behind them, as plain values for JSON."""
        return {
            "accepted": self.intake.accepted,
            "sinks": [delivery.account().to_dict() for delivery in self.deliveries],
            "journal": self.journal.statistics() if self.journal is not None else None,
        }

    def undelivered(self) -> dict[str, int]:
        """Accepted events that the sinks do not have yet, and that no other outcome but that of a stop explains."""
        new = self.intake.accepted
        accounts = [delivery.account() for delivery in self.deliveries]
        return {
            account.sink: new
            - (account.accepted - account.replayed)
            + account.in_flight
            + account.spilled
            + account.dropped.get("shutdown", 0)
            for account in accounts
        }

    def tell(self) -> None:
        """Write the accounts to the log as they stand, for a stop that cannot wait for the tasks that hold events."""
        undelivered = self.undelivered()
        for delivery in self.deliveries:
            _log.error("account", **delivery.account().to_dict(), undelivered=undelivered[delivery.name])

    def close(self) -> list[Account]:
        """All tasks have ended: give every accepted event its outcome, and write the accounts to the log."""
        return [self._close(delivery) for delivery in self.deliveries]

    def audit(self) -> bool:
        """After `close` and the last save: whether everything adds up. What does not is a bug, and is in the log."""
        sound = True
        for delivery in self.deliveries:
            account = delivery.account()
            if account.in_flight or not account.balanced:
                sound = False
                facts = account.to_dict() | {"missing": account.missing, "owed": account.owed}
                _log.critical("the books do not balance, which is a bug of Hermes", **facts)
            if events := self.intake.receipts.untold[delivery.name]:
                sound = False
                _log.critical("requests were not told of a delivery: a bug of Hermes", sink=account.sink, events=events)
        if self.journal is not None and (records := self.journal.untrimmed()):
            sound = False
            _log.critical("the journal keeps what no sink needs: a bug of Hermes", records=records)
        return sound

    def _close(self, delivery: Delivery) -> Account:
        delivery.abandon(self.intake.accepted, self.intake.unkept)
        account = delivery.account()
        lost = account.dropped.get("shutdown", 0)
        worth_a_look = any(account.dropped.values()) or account.dead_lettered or account.evicted or account.spilled
        write = _log.error if lost else _log.warning if worth_a_look else _log.info
        write("account", **account.to_dict(), undelivered=lost + account.spilled)
        return account
