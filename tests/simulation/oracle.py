"""The oracle: it knows what was sent and what was promised, and judges what the sinks have in the end.

An answer makes events an obligation: a firm one, where the service said that they are durable or delivered, or a loose
one, where it only has them in its queue. Invariant: what it finds wrong depends on nothing that the service says of
itself but its answers and its accounts. Told by the clients and by the lives; asked by the run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from hermes.events.engine.ledger import Account
from hermes.events.event import Event
from tests.http_client import Answer
from tests.simulation.requests import Request, Sent
from tests.simulation.sinks import JudgedSink

_TRY_AGAIN = {408, 503, 504}


@dataclass
class _Fate:
    """What the clients know of one event. ``open``: attempts to send it that nobody has said took nothing."""

    sent: Sent
    attempts: int = 0
    open: int = 0
    firm: bool = False
    loose: set[int] = field(default_factory=set)
    """The lives that said that they have it in their queue."""


@dataclass(frozen=True)
class LifeRecord:
    """What is known of a life of the service after its end. ``clean``: what `hermes.app.serve` returned, if it did."""

    number: int
    crashed: bool
    clean: bool | None
    accounts: Sequence[Account]


class Oracle:
    """Judges one run. ``problems`` are sentences; a run without any has passed."""

    def __init__(
        self, sinks: Sequence[JudgedSink], awaited: Iterable[str], *, durable: bool, smallest_journal: int
    ) -> None:
        self.problems: list[str] = []
        self.lives: list[LifeRecord] = []
        self.answers: Counter[int] = Counter()
        self.put_back = 0
        """Refused events that were on disk again at a look, so that others had their room in memory."""
        self._sinks = sinks
        self._awaited = frozenset(awaited)
        self._durable = durable
        self._smallest_journal = smallest_journal  # bytes; a larger request is never taken
        self._fates: dict[str, _Fate] = {}

    # --- what the clients tell -------------------------------------------------------------------------------------

    def issue(self, request: Request) -> None:
        """A request was made."""
        for event in request.events:
            self._fates.setdefault(event.id, _Fate(event))

    def attempt(self, request: Request) -> None:
        """It is about to be sent: from now on its events may be anywhere."""
        for event in request.events:
            self._fates[event.id].attempts += 1
            self._fates[event.id].open += 1

    def answer(self, request: Request, answer: Answer, life: int) -> bool:
        """It was answered by a life of the service. True: for good; False: it may be sent again."""
        self.answers[answer.status] += 1
        fates = [self._fates[event.id] for event in request.events]
        named = b"X-Request-Id" in request.data and answer.status != 408
        if named and answer.headers.get("x-request-id") != request.name:
            self.find(f"{request.name}: answered with the id {answer.headers.get('x-request-id')}")
        if answer.status == 202:
            self._take(request, answer, fates, life)
            return True
        if answer.status == 422:
            self._take_refusal(request, answer, fates)
            return True
        without_journal = answer.status == 400 and request.ack == "durable" and not self._durable
        too_large = answer.status == 413 and request.size > self._smallest_journal
        if without_journal or too_large:
            self._close(fates)
            return True
        if answer.status == 413 and b"JOURNAL_MAX_BYTES" in answer.body and self._durable:
            self._close(fates)  # some journals are smaller than some requests
            return True
        if answer.status not in _TRY_AGAIN:
            self.find(f"{request.name}: unexpected answer {answer.status} {answer.body!r}")
            return True
        if answer.status == 503 and "retry-after" not in answer.headers:
            self.find(f"{request.name}: 503 without Retry-After")
        told = answer.json
        if "accepted" not in told:
            self._close(fates)  # nothing of it was taken
        elif told["durable"]:
            self._promise(fates, None)
            return True  # late, but it will come
        return False

    def _take(self, request: Request, answer: Answer, fates: Sequence[_Fate], life: int) -> None:
        told = answer.json
        rejected = [rejection["index"] for rejection in told.get("rejected", ())]
        if told["accepted"] != len(request.events) or rejected != list(request.invalid):
            self.find(f"{request.name}: took {told}, sent {len(request.events)} and the invalid {request.invalid}")
        loose = request.ack == "accepted" or not self._durable
        self._promise(fates, life if loose else None)
        if request.ack == "delivered":
            self._check_delivered(request)

    def _take_refusal(self, request: Request, answer: Answer, fates: Sequence[_Fate]) -> None:
        awaited = [sink for sink in self._sinks if sink.plan.name in self._awaited]
        refused = any(sink.may_have_refused(fate.sent.id) for sink in awaited for fate in fates)
        if request.ack != "delivered" or not refused:
            self.find(f"{request.name}: 422 without reason: {answer.body!r}")
        if answer.json["durable"]:
            self._promise(fates, None)

    def _check_delivered(self, request: Request) -> None:
        for sink in self._sinks:
            missing = [event.id for event in request.events if event.id not in sink.stored]
            if sink.plan.name in self._awaited and missing:
                self.find(f"{request.name}: said to be delivered, but {sink.plan.name} has not {missing}")

    def _promise(self, fates: Sequence[_Fate], life: int | None) -> None:
        for fate in fates:
            if life is None:
                fate.firm = True
            else:
                fate.loose.add(life)

    def _close(self, fates: Sequence[_Fate]) -> None:
        for fate in fates:
            fate.open -= 1

    # --- what the lives tell ---------------------------------------------------------------------------------------

    def end_life(self, record: LifeRecord) -> None:
        """A life has ended. Of one that has crashed, or never came up, nobody expects an account."""
        self.lives.append(record)
        if record.crashed or not record.accounts:
            return
        for account, sink in zip(record.accounts, self._sinks, strict=True):
            where = f"life {record.number}, {account.sink}"
            refused = account.dead_lettered + account.evicted
            settled = account.delivered + refused + account.spilled + sum(account.dropped.values())
            if account.accepted != settled or not account.balanced:
                self.find(f"{where}: the account does not add up: {account}")
            if account.delivered > sink.confirmed:
                self.find(f"{where}: {account.delivered} delivered, but the sink has confirmed {sink.confirmed}")
            if record.clean and account.dropped.get("shutdown"):
                self.find(f"{where}: a clean end that dropped events: {account}")
            self._check_drops(where, account)

    def _check_drops(self, where: str, account: Account) -> None:
        if not self._durable:
            return
        allowed = {"shutdown", "queue_full"}  # of what was only accepted, and the journal could not be written
        if account.sink not in self._awaited:
            allowed.add("journal_full")
        wrong = {reason: count for reason, count in account.dropped.items() if count and reason not in allowed}
        if wrong:
            self.find(f"{where}: dropped {wrong}")

    # --- judgement -------------------------------------------------------------------------------------------------

    def owed(self, accounts: Sequence[Account]) -> dict[str, int]:
        """For each sink, how many firm obligations are still to come; ``accounts`` are those of the present life.

        Those that were given up for want of room in the journal, as only sinks may that nobody waits for, are not owed.
        """
        owed = {}
        for sink in self._sinks:
            name = sink.plan.name
            firm = sum(
                1
                for id_, fate in self._fates.items()
                if fate.firm and id_ not in sink.stored and not sink.may_have_refused(id_)
            )
            owed[name] = max(0, firm - self._given_up(name, accounts))
        return owed

    def judge(self, letters: Sequence[tuple[str, Event]]) -> None:
        """Judge the sinks and the dead letters when all is over."""
        buried: dict[str, set[str]] = defaultdict(set)
        for sink_name, event in letters:
            buried[sink_name].add(event.id)
            self._check_event(f"the dead letters of {sink_name}", event)
        for sink in self._sinks:
            name = sink.plan.name
            sink.check_files()
            self.problems += sink.complaints
            counts = Counter(row.id for row in sink.rows)
            twice = [id_ for id_, count in counts.items() if count > 1]
            if twice and sink.plan.kind != "file":  # which has no key
                self.find(f"{name}: stored more than once: {twice}")
            for row in sink.rows:
                self._check_event(name, row)
            if wrong := [id_ for id_ in buried[name] if not sink.may_have_refused(id_)]:
                self.find(f"{name}: dead letters that it never refused: {wrong}")
            self._check_missing(sink, buried[name])

    def expect_no_repetition(self) -> None:
        """Where nothing went wrong, no sink was given an event more often than a client sent it."""
        for sink in self._sinks:
            often = [id_ for id_, times in sink.repeated.items() if times >= self._fates[id_].attempts]
            if often:
                self.find(f"{sink.plan.name}: delivered again without need: {often}")

    def _check_event(self, where: str, event: Event) -> None:
        fate = self._fates.get(event.id)
        if fate is None:
            self.find(f"{where}: invented: {event}")
            return
        got = Sent(event.id, event.user_id, event.type, event.timestamp, bytes(event.payload))
        if got != fate.sent:
            self.find(f"{where}: changed: {got} was sent as {fate.sent}")
        if not (fate.open or fate.firm or fate.loose):
            self.find(f"{where}: {event.id} is there, but every answer was that nothing was taken")

    def _check_missing(self, sink: JudgedSink, buried: set[str]) -> None:
        name = sink.plan.name
        missing = {
            id_: fate
            for id_, fate in self._fates.items()
            if (fate.firm or fate.loose)
            and id_ not in sink.stored
            and not (sink.may_have_refused(id_) and id_ in buried)
        }
        firm = [id_ for id_, fate in missing.items() if fate.firm]
        if len(firm) > self._given_up(name):
            self.find(f"{name}: lost, though promised: {firm}")
        crashed = {life.number for life in self.lives if life.crashed}
        loose = [id_ for id_, fate in missing.items() if not fate.firm and not fate.loose & crashed]
        if len(loose) > self._dropped(name, None):
            self.find(f"{name}: lost, and not counted as dropped: {loose}")

    def _given_up(self, sink: str, present: Sequence[Account] = ()) -> int:
        """How many events a crowded journal has made a sink lose that nobody waits for, at most."""
        if sink in self._awaited or not self._durable:
            return 0
        # What the journal had forgotten was in memory alone, and a stop or a crash may have come first.
        return self._dropped(sink, "journal_full", present) + self._dropped(sink, "shutdown", present)

    def _dropped(self, sink: str, reason: str | None, present: Sequence[Account] = ()) -> int:
        """How many events all lives have counted as dropped for a sink, for one reason or for any."""
        accounts = [account for life in self.lives for account in life.accounts] + list(present)
        return sum(
            count
            for account in accounts
            for why, count in account.dropped.items()
            if account.sink == sink and reason in (None, why)
        )

    def tally(self) -> Counter[str]:
        """What this run has seen, in numbers, so that one can tell what a number of runs has tried."""
        tally: Counter[str] = Counter({f"answers {status}": count for status, count in self.answers.items()})
        tally["lives"] = len(self.lives)
        tally["crashes"] = sum(life.crashed for life in self.lives)
        tally["events"] = len(self._fates)
        tally["put back"] = self.put_back
        tally["promised"] = sum(fate.firm for fate in self._fates.values())
        for sink in self._sinks:
            tally["stored"] += len(sink.rows)
            tally["delivered again"] += sum(sink.repeated.values())
        for life in self.lives:
            for account in life.accounts:
                tally["replayed"] += account.replayed
                tally["spilled"] += account.spilled
                tally["dead-lettered"] += account.dead_lettered
                for reason, count in account.dropped.items():
                    tally[f"dropped {reason}"] += count
        return tally

    def find(self, problem: str) -> None:
        """Something is wrong."""
        self.problems.append(problem)
