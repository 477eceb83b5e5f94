"""The event engine as one thing: its tasks, its end, and the account of every accepted event, in every sink.

    accepted = delivered + dead-lettered + evicted + spilled + dropped + in flight      for every sink, at every moment

`Engine.run` owns the tasks. Its end is dataflow, inside out: closing the intake ends the intake's task once it has
handed everything on, and that ends each delivery after its last flush.

Invariant: when `Engine.run` returns or raises, nothing is in flight, and the journal has saved how far each sink came.
Each term of the account is counted where its events are, and `Engine.audit` compares them: the equation of every sink,
what the journal owes against what was spilled, the records that the journal keeps against those that a sink needs, and
the requests that wait for a delivery against the deliveries. ``GET /debug/accounting`` shows the accounts; the log has
them at the end of a run.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

import structlog
import trio

from hermes.base.cleanup import leave_at_least
from hermes.events.engine.aggregate import Aggregator
from hermes.events.engine.aggregate_flush import flush_aggregates
from hermes.events.engine.collectors import IntakeMetrics, SinkMetrics
from hermes.events.engine.delivery import Delivery
from hermes.events.engine.intake import Intake
from hermes.events.engine.journal import EventJournal
from hermes.events.engine.ledger import Account
from hermes.events.engine.upkeep import keep_up, save_at_the_end
from hermes.observe.metrics import MetricSource

_log = structlog.get_logger("hermes")

_LEAST_SAVE_SECONDS = 0.5


@dataclass
class Engine:
    """The intake, its deliveries and the journal between them; ``journal`` is None with DURABILITY=memory.

    ``flush_interval`` is how often the counts go to the sinks as events, in seconds; 0: never.

        engine = Engine(intake, deliveries, journal, aggregator)
        await engine.run(serve)  # `serve` offers events to `engine.intake`; each event has its outcome now
        assert engine.audit()
    """

    intake: Intake
    deliveries: Sequence[Delivery]
    journal: EventJournal | None
    aggregator: Aggregator
    flush_interval: float = 0.0
    _draining: trio.Event = field(default_factory=trio.Event, init=False)
    _answer_within: float = field(default=0.0, init=False)

    async def run(self, inside: Callable[[], Awaitable[None]]) -> None:
        """Deliver events while ``inside`` runs, which offers them, and then until every event has its outcome.

        A bug in a task of the engine cancels ``inside`` at once, however long the other tasks take to clean up.
        """
        try:
            async with trio.open_nursery() as delivering:
                for delivery in self.deliveries:
                    delivering.start_soon(delivery.run)
                # The order of a stop, inside out: `inside` offers no more, the intake hands the rest on, the deliveries
                # write the rest. Each nursery waits for its own tasks before the outer one goes on.
                async with trio.open_nursery() as handing_on:
                    handing_on.start_soon(self.intake.run)
                    async with trio.open_nursery() as upkeep:
                        # In one nursery with `inside`, so that a bug in any of these tasks ends it at once.
                        upkeep.start_soon(self.intake.receipts.run)
                        upkeep.start_soon(self._expire_receipts_of_a_stop)
                        if self.journal is not None:
                            upkeep.start_soon(keep_up, self.journal, self.deliveries)
                        if self.flush_interval:
                            offer = self.intake.offer_derived
                            upkeep.start_soon(flush_aggregates, self.aggregator, offer, self.flush_interval)
                        await inside()
                        # Saved once more at the end, when the deliveries have settled the rest.
                        upkeep.cancel_scope.cancel()
                    self.intake.close()
        finally:
            await self._finish()

    @property
    def metrics(self) -> Sequence[MetricSource]:
        """The sources of all metrics of the engine."""
        sources: list[MetricSource] = [IntakeMetrics(self.intake, self.aggregator), SinkMetrics(self.deliveries)]
        return [*sources, self.journal.metrics] if self.journal is not None else sources

    @property
    def queued(self) -> int:
        """Events that are in the bounded queue."""
        return self.intake.admission.events

    def drain(self, within: float) -> None:
        """Begin a stop: no request waits for room any more, or for longer than ``within`` seconds for its answer.

        The requests that are being answered may still offer their events.
        """
        # The line tells an operator why a stop takes its time.
        in_flight = {account.sink: account.in_flight for account in self.accounts()}
        _log.info("draining", queued=self.queued, in_flight=in_flight)
        self._answer_within = within
        self.intake.stop_blocking()
        self._draining.set()

    def show(self) -> dict[str, object]:
        """The accounts as of now and the journal behind them, as plain values for JSON."""
        return {
            "accepted": self.intake.accepted,
            "sinks": [account.to_dict() for account in self.accounts()],
            "journal": self.journal.statistics() if self.journal is not None else None,
        }

    def accounts(self) -> list[Account]:
        """The account of every sink as of now."""
        return [delivery.account() for delivery in self.deliveries]

    def undelivered(self) -> dict[str, int]:
        """Accepted events, by sink, that the sink does not have, and that have no outcome but that of a stop."""
        # In the middle of a stop that is stuck: the intake may have events that it never handed on.
        new = self.intake.accepted
        return {
            account.sink: new
            - (account.accepted - account.replayed)
            + account.in_flight
            + account.spilled
            + account.dropped.get("shutdown", 0)
            for account in self.accounts()
        }

    async def give_up(self) -> None:
        """Log the accounts and save the progress of the sinks, for a stop that cannot wait for `run` to return."""
        # A call of a plug-in on a thread does not return: the process will end, so all that is known is written now.
        undelivered = self.undelivered()
        _log.error("stuck after the deadline", undelivered=undelivered)
        for account in self.accounts():
            _log.error("account", **account.to_dict(), undelivered=undelivered[account.sink])
        if self.journal is not None:
            await save_at_the_end(self.journal)

    def why_not_ready(self) -> str | None:
        """One line that says why no event is durable now; None: events are taken."""
        # In memory events are taken whatever the disk does.
        if self.journal is not None and self.journal.failing is not None:
            return f"the journal cannot be written: {self.journal.failing}"
        return None

    def settled(self) -> bool:
        """Whether, after `run`, every event has its outcome in every sink and everything adds up."""
        # An event that a stop dropped has an outcome, and still nobody has it: the exit code has to say so.
        lost = any(account.dropped.get("shutdown") for account in self.accounts())
        return self.audit() and not lost

    def audit(self) -> bool:
        """Whether, after `run`, everything adds up. An imbalance is a bug, and is in the log."""
        # Everything is looked at, not only up to the first fault: together they tell where the bug is.
        sound = True
        for account in self.accounts():
            if account.in_flight or not account.balanced:
                sound = False
                facts = account.to_dict() | {"missing": account.missing, "owed": account.owed}
                _log.critical("the books do not balance, which is a bug of Hermes", **facts)
            if events := self.intake.receipts.untold[account.sink]:
                sound = False
                _log.critical("requests were not told of a delivery: a bug of Hermes", sink=account.sink, events=events)
        if self.journal is not None and (records := self.journal.untrimmed()):
            sound = False
            _log.critical("the journal keeps what no sink needs: a bug of Hermes", records=records)
        return sound

    async def _expire_receipts_of_a_stop(self) -> None:
        await self._draining.wait()
        await self.intake.receipts.expire_after(self._answer_within)

    async def _finish(self) -> None:
        """Give every accepted event its outcome after all tasks have ended, log the accounts, and save the progress."""
        self.intake.receipts.expire_all()
        for delivery in self.deliveries:
            delivery.abandon(self.intake.accepted, self.intake.uncommitted)
            _log_at_the_end(delivery.account())
        if self.journal is not None:
            # The clean-up of the sinks may have taken all the time of the stop.
            leave_at_least(_LEAST_SAVE_SECONDS)
            await save_at_the_end(self.journal)


def _log_at_the_end(account: Account) -> None:
    # The level is for alerts on log lines: an error where events are lost, a warning where somebody should look.
    lost = account.dropped.get("shutdown", 0)
    worth_a_look = any(account.dropped.values()) or account.dead_lettered or account.evicted or account.spilled
    write = _log.error if lost else _log.warning if worth_a_look else _log.info
    write("account", **account.to_dict(), undelivered=lost + account.spilled)
