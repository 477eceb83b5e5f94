"""The generator's loop: one Trio task owns an epoll of all connections and serves the ready ones in a plain loop.

A request costs a recv, a look-up, a replace and a send, and no task switch; so one core drives a server that spends one
core on the same requests. One timerfd in the same epoll serves all timeouts: the next request of the schedule, the end
of the run, a reconnection, the check for requests without an answer.

Invariant: a run ends by itself. Sending ends with the duration or the total, and each request in flight at that moment
is answered, lost or timed out within ``Options.timeout``.
"""

from __future__ import annotations

import heapq
import select
import socket
import time
from collections import deque
from collections.abc import Callable

import msgspec
import trio

from hermes.load.alarm import Alarm
from hermes.load.connection import READ_BYTES, Address, Connection, Lost, State, failure_kind
from hermes.load.known import KnownAnswers
from hermes.load.options import MAX_REQUESTS, Options
from hermes.load.schedule import SECOND, Schedule
from hermes.load.tally import Summary, Tally

# 10 ms let a restarting server listen again; the pause doubles up to one second.
_FIRST_BACKOFF = SECOND // 100
_LONGEST_BACKOFF = SECOND
# Stay in the plain loop for 5 ms: a visit to Trio's scheduler costs as much as several requests. The progress display
# and the signal handler get their turn at each visit.
_VISIT_AFTER = SECOND // 200
# Events a call of epoll. More would delay the requests that became due meanwhile.
_READY = 256

# Globals of this module: each saves an attribute look-up for every request of the loop.
_EPOLLIN = select.EPOLLIN
_EPOLLOUT = select.EPOLLOUT
_monotonic_ns = time.monotonic_ns
_IDLE = State.IDLE
_WAITING = State.WAITING
_OUTSTANDING = frozenset({State.WAITING, State.PARTIAL})


class Progress(msgspec.Struct, frozen=True):
    """The state of a run at one moment: ``phase`` is "warm-up", "load" or "drain".

    ``left`` is the number of seconds to the end of sending.
    """

    phase: str
    left: float
    in_flight: int
    summary: Summary


class Reactor:
    """The connections, their epoll and the counters of the current phase.

    Close it after the run, also after a cancelled one::

        with closing(Reactor(options, requests.__next__, family, address)) as reactor:
            await reactor.run()
            print(reactor.summary())

    Attributes: 19, because each answer passes here, and a look into another object for each step would slow the load.
    """

    def __init__(
        self,
        options: Options,
        next_request: Callable[[], bytes],
        family: socket.AddressFamily,
        address: Address,
    ) -> None:
        self._options = options
        self._next_request = next_request
        self._family = family
        self._address = address
        self._epoll = select.epoll()
        self._alarm = Alarm()
        self._epoll.register(self._alarm.fd, _EPOLLIN)
        self._connections = [Connection() for _ in range(options.connections)]
        self._by_fd: dict[int, Connection] = {}
        self._idle: deque[Connection] = deque()
        # A heap of the connections to open, by moment. The second item is unique, so that two equal moments do not
        # make the heap compare connections, which have no order.
        self._closed = [(0, number, connection) for number, connection in enumerate(self._connections)]
        self._order = options.connections
        self._known = KnownAnswers()
        self._phase = "load"
        self._tally = Tally(_monotonic_ns())
        self._schedule: Schedule | None = None
        self._quota = 0
        self._stop_at = 0
        self._check_at = 0
        self._finished = False

    def close(self) -> None:
        """Close every socket."""
        for connection in self._connections:
            connection.close()
        self._alarm.close()
        self._epoll.close()

    def summary(self) -> Summary:
        """Return the figures so far; during the warm-up, the figures of the warm-up."""
        return self._tally.summary(_monotonic_ns(), self._options.events, interrupted=not self._finished)

    def progress(self) -> Progress:
        """Return the figures so far and the time left."""
        tally = self._tally
        now = _monotonic_ns()
        left = max(0, self._stop_at - now) / SECOND if self._quota else 0.0
        phase = self._phase if self._quota else "drain"
        return Progress(phase, left, tally.in_flight, tally.summary(now, self._options.events))

    async def run(self) -> None:
        """Warm up, then send and count the load."""
        options = self._options
        if options.warmup:
            await self._run_phase("warm-up", options.warmup, MAX_REQUESTS)
        await self._run_phase("load", options.duration, options.total or MAX_REQUESTS)
        self._finished = True

    async def _run_phase(self, name: str, duration: float, total: int) -> None:
        start = _monotonic_ns()
        self._phase = name
        self._tally = tally = Tally(start)
        self._stop_at = start + int(duration * SECOND)
        self._quota = total
        self._check_at = start
        ends_at = start
        if self._options.rate is not None:
            self._schedule = schedule = Schedule(start, self._options.rate)
            # Without the request that is due at the very end: a second at 1,000 requests a second has 1,000 of them.
            self._quota = min(total, schedule.due_by(self._stop_at - 1))
            # The last request may be answered before the duration is over. Ending then would make ``elapsed`` too
            # short and the reported rate higher than the rate asked for.
            ends_at = min(self._stop_at, schedule.due_at(self._quota))
        while True:
            now = _monotonic_ns()
            # Due work first, then the next alarm: the alarm is computed from the state after the work.
            self._tend(now)
            if not self._quota and not tally.in_flight and now >= ends_at:
                break
            self._alarm.set(self._next_moment(now, ends_at))
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            visit_at = _monotonic_ns() + _VISIT_AFTER
            # Polled without a wait: Trio is asked again only when no connection is ready.
            while ready := self._epoll.poll(0, _READY):
                self._serve(ready)
                now = _monotonic_ns()
                self._send_due(now)
                if now >= visit_at:
                    break
        tally.ended_at = now

    def _tend(self, now: int) -> None:
        """Do the work that is due by time: stop sending, open connections, time out requests, send."""
        if now >= self._stop_at and self._quota:
            if self._schedule is not None:
                # In the closed loop no request is due before a connection is free for it, so none counts as unsent.
                self._tally.unsent = self._quota
            self._quota = 0
        while self._closed and self._closed[0][0] <= now and self._quota:
            self._open(heapq.heappop(self._closed)[2], now)
        if now >= self._check_at:
            # Eight checks a timeout: a request is given up at most an eighth late, and the scan of all connections
            # stays rare.
            self._check_at = now + int(self._options.timeout * SECOND / 8)
            self._give_up(now)
        self._send_due(now)

    def _next_moment(self, now: int, ends_at: int) -> int:
        moments = [self._check_at]
        if self._quota:
            moments.append(self._stop_at)
            if self._closed:
                moments.append(self._closed[0][0])
            # Without an idle connection the due moment may be past, and an alarm for it would go off again and again.
            if self._schedule is not None and self._idle:
                moments.append(self._schedule.due_at(self._tally.sent))
        elif ends_at > now:
            moments.append(ends_at)
        return min(moments)

    def _give_up(self, now: int) -> None:
        """Close the connections that have been waiting for longer than the timeout."""
        oldest = now - int(self._options.timeout * SECOND)
        # A copy: `_lose` takes the connection out of the dict.
        for connection in list(self._by_fd.values()):
            # An attempt to connect is bounded too: `sent_at` is its beginning.
            if connection.state is not State.IDLE and connection.sent_at < oldest:
                self._lose(connection, "timeout", now)

    def _send_due(self, now: int) -> None:
        """Give idle connections the requests that may be sent now."""
        tally = self._tally
        idle = self._idle
        first = tally.sent
        allowed = min(len(idle), self._quota)
        if self._schedule is not None:
            allowed = min(allowed, self._schedule.due_by(now) - first)
        next_request = self._next_request
        sent_bytes = 0
        for number in range(first, first + allowed):
            connection = idle.popleft()
            request = next_request()
            sent_bytes += len(request)
            # One reading of the clock a request: with several in a row, the time of the first would be false for the
            # last.
            connection.sent_at = now = _monotonic_ns()
            connection.due_at = now if self._schedule is None else self._schedule.due_at(number)
            try:
                if not connection.transmit(request):
                    # EPOLLIN stays on: a server may answer (a 413, say) before the request is out.
                    self._epoll.modify(connection.fd, _EPOLLIN | _EPOLLOUT)
            except Lost as loss:
                self._lose(connection, loss.kind, now)
        tally.sent += allowed
        tally.bytes_sent += sent_bytes
        self._quota -= allowed

    def _serve(self, ready: list[tuple[int, int]]) -> None:
        """Read from the ready connections: the common case here, every other case in `_advance`."""
        tally = self._tally
        codes = tally.codes
        status_of = self._known.status
        by_fd = self._by_fd
        idle = self._idle
        latencies: list[int] = []
        received = 0
        for fd, flags in ready:
            connection = by_fd.get(fd)
            # Only the alarm has a descriptor without a connection.
            if connection is None:
                self._alarm.silence()
                continue
            # Any other flag is EPOLLHUP, EPOLLERR or room to send, and needs more than a read.
            if connection.state is not _WAITING or flags != _EPOLLIN:
                self._advance(connection, flags)
                continue
            try:
                data = connection.recv(READ_BYTES)
            except BlockingIOError:
                continue
            except OSError as error:
                self._lose(connection, failure_kind(error), _monotonic_ns())
                continue
            status = status_of(data)
            if status is None:
                self._take(connection, data)
                continue
            # From the due time, not the time of sending: see `hermes.load.schedule`.
            latencies.append(_monotonic_ns() - connection.due_at)
            codes[status] += 1
            received += len(data)
            connection.state = _IDLE
            connection.failures = 0
            idle.append(connection)
        # Once a batch of ready connections: the histogram's call costs more than counting one value.
        tally.latencies.record(latencies)
        tally.answered += len(latencies)
        tally.bytes_received += received

    def _advance(self, connection: Connection, flags: int) -> None:
        """Go on with a connection that waits for something else than the first bytes of an answer."""
        try:
            if connection.state is State.CONNECTING:
                connection.connected()
                self._epoll.modify(connection.fd, _EPOLLIN)
                self._idle.append(connection)
            elif connection.state is State.IDLE:
                # The server closes an idle connection, or sends a 408 before it closes. No request is lost with the
                # connection, so the tally counts no error.
                self._idle.remove(connection)
                self._reopen(connection, _monotonic_ns() + _FIRST_BACKOFF)
            else:
                if flags & _EPOLLOUT and connection.resume():
                    self._epoll.modify(connection.fd, _EPOLLIN)
                if flags & ~_EPOLLOUT:
                    self._take(connection, connection.receive())
        except BlockingIOError:
            return
        except Lost as loss:
            self._lose(connection, loss.kind, _monotonic_ns())

    def _take(self, connection: Connection, data: bytes) -> None:
        """Parse the received bytes and count the answer that they complete."""
        fresh = connection.state is State.WAITING
        try:
            answer = connection.take(data)
        except Lost as loss:
            self._lose(connection, loss.kind, _monotonic_ns())
            return
        tally = self._tally
        tally.bytes_received += len(data)
        if answer is None:
            return
        connection.failures = 0
        tally.answered += 1
        tally.codes[answer.status] += 1
        tally.latencies.record([_monotonic_ns() - connection.due_at])
        if not answer.reusable:
            # At once: the server has ended the connection in good order, which is no failure to pause for.
            self._reopen(connection, 0)
            return
        self._idle.append(connection)
        # An answer that came in several reads has no shape to learn: `KnownAnswers` compares whole reads.
        if fresh:
            self._known.learn(data, answer.status)

    def _open(self, connection: Connection, now: int) -> None:
        connection.sent_at = now
        try:
            connection.connect(self._family, self._address)
        except Lost as loss:
            self._lose(connection, loss.kind, now)
            return
        self._by_fd[connection.fd] = connection
        self._epoll.register(connection.fd, _EPOLLOUT)

    def _lose(self, connection: Connection, kind: str, now: int) -> None:
        """Count the loss of a connection and its request, and open the connection again after a growing pause."""
        self._tally.count_error(kind)
        if connection.state in _OUTSTANDING:
            self._tally.lost += 1
        # The shift is bounded, because an unbounded one makes a huge integer after days of failures.
        pause = min(_FIRST_BACKOFF << min(connection.failures, 10), _LONGEST_BACKOFF)
        connection.failures += 1
        self._reopen(connection, now + pause)

    def _reopen(self, connection: Connection, moment: int) -> None:
        # Closing a descriptor takes it out of the epoll too. The dict must forget it as well, because the kernel
        # gives the same number to the next socket.
        self._by_fd.pop(connection.fd, None)
        connection.close()
        self._order += 1
        heapq.heappush(self._closed, (moment, self._order, connection))
