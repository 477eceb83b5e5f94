"""The reactor: one Trio task that owns every socket of the fast lane.

A wake-up of the epoll serves each connection that is ready in a plain loop, so a request costs a recv, a parse, a
decode and a send, and no task switch; after a few milliseconds it yields to the other tasks. One timer looks at the
deadlines.
Invariants: a socket is registered while its connection is in the table; an error of one socket ends that connection
alone; nothing here blocks. Run by the app as one task; a connection that belongs to the control lane leaves through
``hand_over``.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import inf
from time import perf_counter

import trio

from hermes.net.http.connection import Connection, Phase, allowance
from hermes.net.http.lane import (
    ACCEPT_PAUSE,
    LEAST_IDLE_SECONDS,
    LINGER_AT_STOP_SECONDS,
    TURN_SECONDS,
    Lane,
    Timeouts,
)
from hermes.net.listen import Fault, address_of, whose_fault
from hermes.observe.throttled_log import ThrottledLog

_IDLE = Phase.IDLE
_IN = select.EPOLLIN
_READ = select.EPOLLIN | select.EPOLLRDHUP
_GONE = select.EPOLLHUP | select.EPOLLERR
_READY = 256  # events of one poll
_RECV_BYTES = 64 * 2**10
_RECV_BODY_BYTES = 512 * 2**10
_SWEEP_SECONDS = 0.5
_LINGER_SECONDS = 2.0
_LOST_IN_A_ROW = 16  # connections that were lost before accept(2), after which it may go on like that: pause


class _Peer:
    """One socket, its connection, and when its present phase runs out."""

    __slots__ = ("_reactor", "calm", "connection", "deadline", "fd", "interest", "lingering", "phase", "sock")

    def __init__(self, sock: socket.socket, reactor: Reactor) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.interest = _READ
        self.lingering = False
        self.phase: Phase | None = Phase.IDLE
        self.calm = True  # between two requests, with nothing unsent: what it is in nearly always
        self.deadline = 0.0
        self._reactor = reactor
        self.connection = Connection(reactor.lane, self._ready, self._address)

    def _address(self) -> str:
        return address_of(self.sock)

    def _ready(self) -> None:
        self._reactor.wait_is_over(self)


class Reactor:
    """The fast lane's connections. Make one, then run `serve` in a task; `drain` lets it end."""

    def __init__(
        self,
        lane: Lane,
        listeners: Sequence[socket.socket],
        hand_over: Callable[[socket.socket, bytes], None],
        timeouts: Timeouts,
        max_connections: int,
    ) -> None:
        self.lane = lane
        self._listeners = {sock.fileno(): sock for sock in listeners}
        self._hand_over = hand_over
        self._timeouts = timeouts
        self._max_connections = max_connections
        self._peers: dict[int, _Peer] = {}
        self._epoll = select.epoll()
        self._unserved: list[tuple[int, int]] = []
        self._accepting = False
        self._accept_again = 0.0
        self._now = 0.0
        self._idle_deadline = 0.0
        self._emptied: trio.Event | None = None
        self.evicted = 0
        self._throttled = ThrottledLog("hermes.net.http")

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._peers)

    async def serve(self) -> None:
        """Serve until cancelled. Sockets are closed on the way out."""
        self._now = trio.current_time()
        try:
            for fd in self._listeners:
                self._epoll.register(fd, 0)
            self._accept(True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                while True:
                    try:
                        await trio.lowlevel.wait_readable(self._epoll.fileno())  # a checkpoint, always
                    except OSError as error:
                        # Trio registers our epoll for each wait; max_user_watches may forbid it (epoll_ctl(2), ENOSPC).
                        if whose_fault(error) is Fault.OURS:
                            raise
                        await trio.sleep(ACCEPT_PAUSE)
                    self._turn()
        finally:
            for peer in tuple(self._peers.values()):
                self._close(peer)
            self._close_listeners()
            self._epoll.close()
            self._throttled.write_rest()

    async def drain(self) -> None:
        """Stop accepting, answer what is in flight, and return once every connection is closed."""
        self.lane.draining = True
        self._close_listeners()
        for peer in tuple(self._peers.values()):
            peer.connection.call_off()
            # What lies in the socket unread was sent before we stopped: it is served, and answered "connection: close".
            self._serve_peer(peer, select.EPOLLIN)
            if peer.fd in self._peers and peer.connection.phase is Phase.IDLE and peer.connection.answered:
                self._finish(peer)
        if self._peers:
            self._emptied = trio.Event()
            await self._emptied.wait()

    # --- one wake-up -------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        """Serve who is ready, and who has become ready meanwhile, for as long as a turn may take."""
        peers, poll = self._peers, self._epoll.poll
        self._now = trio.current_time()
        self._idle_deadline = self._now + self._timeouts.idle
        self.lane.begin_turn()
        began = perf_counter()
        end = self.lane.turn_ends = began + TURN_SECONDS
        newcomers = False
        # Whom the last turn had no time for comes first: the epoll would report a busy neighbour before it each time.
        ready, self._unserved = self._unserved or poll(0, _READY), []
        while ready:
            for position, (fd, events) in enumerate(ready, 1):
                peer = peers.get(fd)
                if peer is None:
                    newcomers = True
                    continue
                if events == _IN and peer.calm:
                    self._serve_calm(peer)
                else:
                    self._serve_peer(peer, events)
                if perf_counter() > end:
                    self._unserved = ready[position:]
                    break
            now = perf_counter()
            if self.lane.answered:
                self.lane.settle_answered(now - began)
            began = now
            ready = poll(0, _READY) if now < end and not newcomers else []
        if newcomers:
            # Last, so that no event of a descriptor just closed is taken for its successor's of the same number.
            for listener in tuple(self._listeners.values()):
                self._accept_all(listener)

    def _serve_calm(self, peer: _Peer) -> None:
        """The usual case of `_serve_peer`, and the only one that has to be fast: whole requests, answered at once."""
        connection = peer.connection
        try:
            data = peer.sock.recv(_RECV_BYTES)
            if data:
                connection.receive_heads(data)
                out = connection.out
                if len(out) == 1 and connection.phase is _IDLE and not connection.waiting:
                    sent = peer.sock.send(out[0])
                    if sent == connection.unsent:
                        out.clear()
                        connection.unsent = 0
                        peer.deadline = self._idle_deadline
                        return
                    out[0] = out[0][sent:]
                elif not out and len(connection.waiting) == 1 and connection.phase is _IDLE:
                    # It waits for its commit, and may take as long; more requests may come meanwhile.
                    peer.calm, peer.phase, peer.deadline = False, None, inf
                    return
            else:
                self._receive_eof(peer)
        except BlockingIOError:
            pass
        except OSError:
            self._close(peer)
            return
        self._settle(peer)

    def _serve_peer(self, peer: _Peer, events: int) -> None:
        connection = peer.connection
        try:
            if events & select.EPOLLOUT:
                if not self._send(peer):
                    return
                connection.resume()
            elif events & _GONE:
                self._close(peer)
                return
            if connection.deferred:
                pass  # the client's next bytes, or its end, are for the turn in which this one's requests are served
            elif events & _READ and (peer.interest & select.EPOLLIN):
                # No more than the rest of a body: many small requests in one go would hold up the others.
                data = peer.sock.recv(min(max(connection.expected, _RECV_BYTES), _RECV_BODY_BYTES))
                if peer.lingering:
                    if not data:
                        self._close(peer)
                    return
                if data:
                    connection.receive(data)
                else:
                    self._receive_eof(peer)
            elif events & select.EPOLLRDHUP:
                if connection.wants_bytes:
                    self._receive_eof(peer)
                else:
                    # What it sent before its end lies unread, for too much is unanswered: the end comes after that.
                    peer.interest = 0
                    self._epoll.modify(peer.fd, 0)
                    return
        except BlockingIOError:
            return
        except OSError:
            self._close(peer)
            return
        self._settle(peer)

    def _receive_eof(self, peer: _Peer) -> None:
        peer.calm = False
        peer.interest = 0
        self._epoll.modify(peer.fd, 0)
        peer.connection.receive_eof()

    def _settle(self, peer: _Peer) -> None:
        """Send what is ready, then let the connection go on, leave for the control lane, or end."""
        connection = peer.connection
        while connection.out:
            if not self._send(peer):
                return
            peer.phase = None  # a request was answered: what the connection does now has time of its own
            if connection.deferred:
                break
            connection.resume()
        if not connection.hold():
            self._close(peer)
            return
        phase = connection.phase
        if phase is Phase.IDLE and not connection.waiting:
            if peer.phase is Phase.IDLE and peer.interest == _READ:
                peer.deadline = self._now + self._timeouts.idle
                return
        elif phase is Phase.HANDOVER and connection.answered and not connection.out:
            self._release(peer)
            return
        elif phase is Phase.CLOSING and connection.answered and not connection.out:
            self._finish(peer)
            return
        self._update(peer)

    def _update(self, peer: _Peer) -> None:
        """Bring interest and deadline in line with what the connection does now."""
        connection = peer.connection
        interest = 0
        if connection.out or connection.deferred:
            interest |= select.EPOLLOUT  # one that can be written to comes up in the next poll, after the others
        if connection.phase is not Phase.CLOSING and connection.wants_bytes:
            interest |= _READ
        elif connection.waiting and peer.interest:
            interest |= select.EPOLLRDHUP
        if interest != peer.interest:
            peer.interest = interest
            self._epoll.modify(peer.fd, interest)
        peer.calm = interest == _READ and connection.phase is _IDLE and not connection.waiting
        phase = None if connection.waiting else connection.phase
        if connection.out or (connection.deferred and not connection.waiting):
            phase = Phase.CLOSING  # it goes on once the client reads what was sent
        if phase is not peer.phase or phase is Phase.IDLE:
            peer.phase = phase
            peer.deadline = self._now + self._allowance(peer)

    def _allowance(self, peer: _Peer) -> float:
        connection = peer.connection
        if connection.out:
            return self._timeouts.write
        if connection.waiting:
            return inf
        return self._timeouts.write if connection.deferred else allowance(connection.phase, self._timeouts)

    def _send(self, peer: _Peer) -> bool:
        """Send what is ready. False if the connection ended, or some of it is left for later."""
        connection = peer.connection
        out = connection.out
        if not out:
            return True
        data = out[0] if len(out) == 1 else b"".join(out)
        try:
            sent = peer.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._close(peer)
            return False
        if sent == len(data):
            out.clear()
            connection.unsent = 0
            return True
        out[:] = [data[sent:]]
        connection.unsent = len(data) - sent
        if not connection.hold():
            self._close(peer)
            return False
        peer.phase = None if sent else peer.phase  # progress: the deadline for writing begins anew
        self._update(peer)
        return False

    def wait_is_over(self, peer: _Peer) -> None:
        """A wait of this connection was answered, outside of the lane's own turn."""
        if self._peers.get(peer.fd) is not peer:
            return
        connection = peer.connection
        connection.defer()  # not now: the answers of one commit may come to hundreds of connections
        out = connection.out
        if len(out) == 1 and connection.phase is _IDLE and not connection.waiting and peer.interest == _READ:
            # The usual case, and the one that has to be fast: one request, one commit, one response.
            try:
                sent = peer.sock.send(out[0])
            except BlockingIOError:
                sent = 0
            except OSError:
                self._close(peer)
                return
            if sent == connection.unsent:
                out.clear()
                connection.unsent = 0
                peer.phase, peer.calm = _IDLE, True
                peer.deadline = trio.current_time() + self._timeouts.idle
                return
            out[0] = out[0][sent:]
            connection.unsent -= sent
        self._settle(peer)

    # --- beginnings and ends -----------------------------------------------------------------------------------

    def _accept(self, on: bool) -> None:
        if on == self._accepting:
            return
        self._accepting = on
        for fd in self._listeners:
            # They stay registered, for to register needs memory, which may be what is short.
            self._epoll.modify(fd, select.EPOLLIN if on else 0)

    def _close_listeners(self) -> None:
        self._accept(False)
        for listener in self._listeners.values():
            listener.close()
        self._listeners = {}

    def _accept_all(self, listener: socket.socket) -> None:
        lost = 0
        while len(self._peers) < self._max_connections:
            try:
                sock, _ = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                fault = whose_fault(error)
                if fault is Fault.OURS:
                    raise
                lost += 1
                if fault is Fault.KERNEL or lost == _LOST_IN_A_ROW:
                    self._pause_accepting(error)
                    return
                continue
            sock.setblocking(False)
            with suppress(OSError):  # the client may be gone already; recv will say so
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = _Peer(sock, self)
            try:
                self._epoll.register(peer.fd, _READ)
            except OSError as error:
                sock.close()
                self._pause_accepting(error)
                return
            if self._unserved:  # what was reported of a descriptor that is closed is not true of its successor
                self._unserved = [entry for entry in self._unserved if entry[0] != peer.fd]
            peer.deadline = self._now + self._timeouts.idle
            self._peers[peer.fd] = peer
        self._accept(False)

    def _make_room(self) -> None:
        """Let the idlest connections give way where there is no room and somebody waits to be accepted."""
        waiting = select.poll()
        for fd in self._listeners:
            waiting.register(fd, select.POLLIN)
        if not waiting.poll(0):
            return
        idle_until = self._now + self._timeouts.idle - LEAST_IDLE_SECONDS
        idle = [peer for peer in self._peers.values() if peer.calm and peer.deadline <= idle_until]
        idle.sort(key=lambda peer: peer.deadline)
        for peer in idle[: max(1, self._max_connections // 10)]:
            self.evicted += 1
            self._close(peer)

    def _pause_accepting(self, error: OSError) -> None:
        self._throttled.warn("cannot accept for a moment", error=str(error), connections=len(self._peers))
        self._accept_again = self._now + ACCEPT_PAUSE
        self._accept(False)

    def _finish(self, peer: _Peer) -> None:
        """All is said: close our side first, so that the last response is not lost to bytes the client still sends."""
        if peer.lingering:
            return
        peer.lingering = True
        peer.calm = False
        peer.deadline = self._now + (LINGER_AT_STOP_SECONDS if self.lane.draining else _LINGER_SECONDS)
        peer.phase = Phase.CLOSING
        peer.connection.phase = Phase.CLOSING
        try:
            peer.sock.shutdown(socket.SHUT_WR)
            if peer.interest == 0:
                self._close(peer)  # the client's side is closed already
            elif peer.interest != _READ:
                peer.interest = _READ
                self._epoll.modify(peer.fd, _READ)
        except OSError:
            self._close(peer)

    def _forget(self, peer: _Peer) -> None:
        del self._peers[peer.fd]
        self._epoll.unregister(peer.fd)
        if not self._peers and self._emptied is not None:
            self._emptied.set()
        if not self._accepting and not self.lane.draining and not self._accept_again:
            self._accept(True)

    def _close(self, peer: _Peer) -> None:
        if self._peers.get(peer.fd) is peer:
            self._forget(peer)
            peer.sock.close()
            peer.connection.drop()

    def _release(self, peer: _Peer) -> None:
        self._forget(peer)
        self._hand_over(peer.sock, peer.connection.take_handover())

    async def _sweep(self) -> None:
        """End what has taken too long, a few times a second."""
        while True:
            await trio.sleep(_SWEEP_SECONDS)
            self._now = now = trio.current_time()
            self.lane.begin_turn()
            if self._accept_again and now >= self._accept_again and not self.lane.draining:
                self._accept_again = 0.0
                self._accept(True)
            if len(self._peers) >= self._max_connections:
                self._make_room()
            for peer in [peer for peer in self._peers.values() if peer.deadline <= now]:
                if peer.lingering or peer.connection.out or peer.connection.deferred:
                    self._close(peer)
                elif self._peers.get(peer.fd) is peer:  # the end of another may have ended this one's wait, and itself
                    peer.connection.time_out()
                    self._settle(peer)
