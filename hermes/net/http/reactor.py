"""The reactor: one Trio task that owns every socket of the fast lane.

A wake-up of the epoll serves each connection that is ready in a plain loop, so a request costs a recv, a parse, a
decode and a send, and no task switch. After a few milliseconds the task yields to the other tasks. One timer looks at
the deadlines. A connection for the control lane leaves through ``hand_over``.

Invariants: a socket is registered while its connection is in the table; an error of one socket ends this connection
alone; nothing here blocks.

The usual request has short ways of its own (`Reactor._serve_calm`, the begin of `Reactor.wait_is_over`), which repeat a
few lines of the general ones. This is why the file is long: a look into another object for each step costs each
request.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Sequence
from math import inf
from time import perf_counter

import trio

from hermes.net.http.lane import (
    ACCEPT_PAUSE,
    LEAST_IDLE_SECONDS,
    LINGER_AT_STOP_SECONDS,
    TURN_SECONDS,
    Lane,
    Timeouts,
)
from hermes.net.http.peer import READ, Peer
from hermes.net.http.phase import Phase
from hermes.net.http.polled import PolledListeners
from hermes.net.listen import Fault, whose_fault

_IDLE = Phase.IDLE
_IN = select.EPOLLIN
_GONE = select.EPOLLHUP | select.EPOLLERR
# Events of one poll: a turn serves fewer in its time, and a longer list would only be made for nothing.
_READY = 256
_RECV_BYTES = 64 * 2**10
# A body of megabytes comes in fewer steps, and one step still takes less than a millisecond.
_RECV_BODY_BYTES = 512 * 2**10
# Deadlines are whole seconds, so half a second late is near enough; a timer for each connection would cost each
# request.
_SWEEP_SECONDS = 0.5
_LINGER_SECONDS = 2.0


class Reactor:
    """The fast lane's connections. `serve` runs in a task until it is cancelled; `drain` ends the connections before.

    ::

        reactor = Reactor(lane, sockets, control.hand_over, timeouts, max_connections=10_000)
        nursery.start_soon(reactor.serve)
        ...
        await reactor.drain()
    """

    def __init__(
        self,
        lane: Lane,
        listeners: Sequence[socket.socket],
        hand_over: Callable[[socket.socket, bytes], None],
        timeouts: Timeouts,
        max_connections: int,
    ) -> None:
        self.lane = lane
        self._listeners = PolledListeners(listeners, lambda: self.connections)
        self._hand_over = hand_over
        self._timeouts = timeouts
        self._max_connections = max_connections
        self._peers: dict[int, Peer] = {}
        # Bound once: a bound method for each connection would take memory for each.
        self._hear_ready = self.wait_is_over
        self._unserved: list[tuple[int, int]] = []
        self._now = 0.0
        self._idle_deadline = 0.0
        self._emptied: trio.Event | None = None
        self.evicted = 0

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._peers)

    async def serve(self) -> None:
        """Serve until cancelled. Sockets are closed on the way out."""
        self._now = trio.current_time()
        self._epoll = epoll = select.epoll()
        try:
            self._listeners.register(epoll)
            self._listeners.watch()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                while True:
                    try:
                        # Always a checkpoint, also if the epoll is ready, so that the other tasks get their turns.
                        await trio.lowlevel.wait_readable(epoll.fileno())
                    except OSError as error:
                        # Trio registers our epoll for each wait; max_user_watches may forbid it (epoll_ctl(2), ENOSPC).
                        if whose_fault(error) is Fault.OURS:
                            raise
                        await trio.sleep(ACCEPT_PAUSE)
                    self._turn()
        finally:
            for peer in tuple(self._peers.values()):
                self._close(peer)
            self._listeners.close()
            epoll.close()

    async def drain(self) -> None:
        """Stop accepting, answer the requests in flight, and return once every connection is closed."""
        self.lane.draining = True
        self._listeners.close()
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
        """Serve the clients that are ready, and the clients that have become ready meanwhile, for one turn's time."""
        peers, poll = self._peers, self._epoll.poll
        self._now = trio.current_time()
        self._idle_deadline = self._now + self._timeouts.idle
        self.lane.begin_turn()
        began = perf_counter()
        end = self.lane.turn_ends = began + TURN_SECONDS
        newcomers = False
        # Clients that the last turn had no time for come first: the epoll would report busy neighbours before them.
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
                self.lane.observe_answered(now - began)
            began = now
            ready = poll(0, _READY) if now < end and not newcomers else []
        if newcomers:
            # Last, so that no event of a descriptor just closed is taken for its successor's of the same number.
            self._accept()

    def _serve_calm(self, peer: Peer) -> None:
        """Serve the usual case of `_serve_peer`, which has to be fast: whole requests that are answered at once."""
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
                    # The request waits for its commit, and may take as long. More requests may come meanwhile.
                    peer.calm, peer.timed, peer.deadline = False, None, inf
                    return
            else:
                self._receive_eof(peer)
        except BlockingIOError:
            pass
        except OSError:
            self._close(peer)
            return
        self._advance(peer)

    def _serve_peer(self, peer: Peer, events: int) -> None:
        connection = peer.connection
        try:
            # First what can be sent: it makes room for further requests.
            if events & select.EPOLLOUT:
                if not self._send(peer):
                    return
                connection.resume()
            elif events & _GONE:
                self._close(peer)
                return
            if connection.deferred:
                # The client's next bytes, or its end, are for the turn in which this one's requests are served.
                pass
            elif events & READ and (peer.interest & select.EPOLLIN):
                # No more than the rest of a body: many small requests in one go would hold up the others.
                data = peer.sock.recv(min(max(connection.expected, _RECV_BYTES), _RECV_BODY_BYTES))
                if peer.lingering:
                    # Read and thrown away: unread bytes would make the kernel reset the connection, and the client
                    # could lose the last answer.
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
                    # Bytes that the client sent before its end lie unread, because too much is unanswered: read them
                    # first.
                    peer.interest = 0
                    self._epoll.modify(peer.fd, 0)
                    return
        except BlockingIOError:
            return
        except OSError:
            self._close(peer)
            return
        self._advance(peer)

    def _receive_eof(self, peer: Peer) -> None:
        peer.calm = False
        peer.interest = 0
        self._epoll.modify(peer.fd, 0)
        peer.connection.receive_eof()

    def _advance(self, peer: Peer) -> None:
        """Send the responses that are ready, then let the connection go on, leave for the control lane, or end."""
        connection = peer.connection
        while connection.out:
            if not self._send(peer):
                return
            # A request was answered, so the next phase has time of its own.
            peer.timed = None
            if connection.deferred:
                break
            connection.resume()
        if not connection.hold():
            self._close(peer)
            return
        phase = connection.phase
        if phase is Phase.IDLE and not connection.waiting:
            if peer.timed is Phase.IDLE and peer.interest == READ:
                peer.deadline = self._now + self._timeouts.idle
                return
        elif phase is Phase.HANDOVER and connection.answered and not connection.out:
            self._release(peer)
            return
        elif phase is Phase.CLOSING and connection.answered and not connection.out:
            self._finish(peer)
            return
        self._update(peer)

    def _update(self, peer: Peer) -> None:
        """Bring interest and deadline in line with the connection's phase."""
        interest = peer.interest_now()
        if interest != peer.interest:
            peer.interest = interest
            self._epoll.modify(peer.fd, interest)
        connection = peer.connection
        peer.calm = interest == READ and connection.phase is _IDLE and not connection.waiting
        peer.set_deadline(self._now, self._timeouts)

    def _send(self, peer: Peer) -> bool:
        """Send the responses that are ready. False: the connection ended, or some bytes are left for later."""
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
        # Progress: the deadline for writing begins anew.
        peer.timed = None if sent else peer.timed
        self._update(peer)
        return False

    def wait_is_over(self, peer: Peer) -> None:
        """Send a response that a ticket gave, outside of the lane's own turn."""
        # The client may have left during the commit, and another may have the number of its descriptor now.
        if self._peers.get(peer.fd) is not peer:
            return
        connection = peer.connection
        # Its further requests wait for the next turn: the answers of one commit may come to hundreds of connections,
        # and the engine waits while they are sent.
        connection.defer()
        out = connection.out
        if len(out) == 1 and connection.phase is _IDLE and not connection.waiting and peer.interest == READ:
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
                peer.timed, peer.calm = _IDLE, True
                peer.deadline = trio.current_time() + self._timeouts.idle
                return
            out[0] = out[0][sent:]
            connection.unsent -= sent
        self._advance(peer)

    # --- beginnings and ends -----------------------------------------------------------------------------------

    def _accept(self) -> None:
        if len(self._peers) < self._max_connections:
            for sock in self._listeners.accept(self._now):
                if not self._take(sock) or len(self._peers) >= self._max_connections:
                    break
        if len(self._peers) >= self._max_connections:
            # Or each poll would report the clients that wait, and none could be taken.
            self._listeners.ignore()

    def _take(self, sock: socket.socket) -> bool:
        """Serve a new connection. False: the machine lacks room for one more."""
        peer = Peer(sock, self.lane, self._hear_ready)
        try:
            self._epoll.register(peer.fd, READ)
        except OSError as error:
            sock.close()
            self._listeners.pause(error, self._now)
            return False
        # The kernel gives the number of a closed descriptor to the next. A report about the old one is not for the new.
        if self._unserved:
            self._unserved = [entry for entry in self._unserved if entry[0] != peer.fd]
        peer.deadline = self._now + self._timeouts.idle
        self._peers[peer.fd] = peer
        return True

    def _make_room(self) -> None:
        """Let the idlest connections give way, if there is no room and a client waits to be accepted."""
        if not self._listeners.anyone_waits():
            return
        idle_until = self._now + self._timeouts.idle - LEAST_IDLE_SECONDS
        idle = [peer for peer in self._peers.values() if peer.calm and peer.deadline <= idle_until]
        idle.sort(key=lambda peer: peer.deadline)
        # A tenth at once: one each half second would keep a crowd of new clients waiting.
        for peer in idle[: max(1, self._max_connections // 10)]:
            self.evicted += 1
            self._close(peer)

    def _finish(self, peer: Peer) -> None:
        """Close our side first, so that the last response is not lost to bytes that the client still sends."""
        if peer.lingering:
            return
        peer.lingering = True
        peer.calm = False
        peer.deadline = self._now + (LINGER_AT_STOP_SECONDS if self.lane.draining else _LINGER_SECONDS)
        peer.timed = Phase.CLOSING
        peer.connection.end()
        try:
            peer.sock.shutdown(socket.SHUT_WR)
            if peer.interest == 0:
                # The client's side is closed already, so nothing more can come.
                self._close(peer)
            elif peer.interest != READ:
                peer.interest = READ
                self._epoll.modify(peer.fd, READ)
        except OSError:
            self._close(peer)

    def _forget(self, peer: Peer) -> None:
        del self._peers[peer.fd]
        self._epoll.unregister(peer.fd)
        if not self._peers and self._emptied is not None:
            self._emptied.set()
        self._listeners.watch()

    def _close(self, peer: Peer) -> None:
        if self._peers.get(peer.fd) is peer:
            self._forget(peer)
            peer.sock.close()
            peer.connection.drop()

    def _release(self, peer: Peer) -> None:
        self._forget(peer)
        self._hand_over(peer.sock, peer.connection.take_handover())

    async def _sweep(self) -> None:
        """End the connections that have taken too long, twice a second."""
        while True:
            await trio.sleep(_SWEEP_SECONDS)
            self._now = now = trio.current_time()
            self.lane.begin_turn()
            self._listeners.end_pause(now)
            if len(self._peers) >= self._max_connections:
                self._make_room()
            for peer in [peer for peer in self._peers.values() if peer.deadline <= now]:
                if peer.lingering or peer.held_back:
                    self._close(peer)
                elif self._peers.get(peer.fd) is peer:
                    # Asked again, because the end of another connection may have answered this one, and closed it.
                    peer.connection.time_out()
                    self._advance(peer)
