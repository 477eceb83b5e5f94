"""The simulated network: connections in memory, with latency, fragments, cuts at any byte, and clients that vanish.

It stands where the kernel's sockets would: a life of the service listens, clients connect, and each direction of a
connection carries bytes in pieces that arrive later, in order. Invariants: bytes are never reordered, changed or made
up; a connection that breaks loses the end of what was sent and nothing else; after `Network.crash` no byte of the dead
life reaches a client that was not under way before. Time is Trio's, so a run costs no waiting.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import inf
from operator import index
from random import Random

import trio

from tests.simulation.trace import Trace

_RECV_BYTES = 64 * 2**10


@dataclass(frozen=True)
class Weather:
    """How a connection fares. Times in seconds, sizes in bytes."""

    latency: float = 0.001
    """One way, for each piece."""
    jitter: float = 0.0
    """What may be added to the latency."""
    pieces: int = 1
    """The most fragments that what is sent at once arrives in."""
    window: int = 64 * 2**10
    """What a sender may have under way before the receiver has to read."""
    cut_after: int | None = None
    """The connection breaks when this many bytes have been sent, both directions together."""


class _Pipe:
    """One direction: pieces with the time at which each arrives."""

    def __init__(self, weather: Weather, random: Random) -> None:
        self.arrivals: deque[tuple[float, bytes]] = deque()
        self.under_way = 0
        self.ended_at = inf
        self.unheard = False
        self.news = trio.Event()
        self.room = trio.Event()
        self._weather = weather
        self._random = random
        self._last = 0.0

    def arrival(self) -> float:
        """When what is sent now arrives: never before what was sent earlier."""
        weather = self._weather
        self._last = max(self._last, trio.current_time() + weather.latency + self._random.random() * weather.jitter)
        return self._last

    def put(self, piece: bytes) -> None:
        self.arrivals.append((self.arrival(), piece))
        self.under_way += len(piece)
        self.wake_reader()

    def take(self, most: int) -> bytes:
        """What has arrived, up to ``most`` bytes of one piece."""
        arrived, piece = self.arrivals.popleft()
        if len(piece) > most:
            self.arrivals.appendleft((arrived, piece[most:]))
            piece = piece[:most]
        self.under_way -= len(piece)
        self.wake_writer()
        return piece

    def wake_reader(self) -> None:
        self.news.set()
        self.news = trio.Event()

    def wake_writer(self) -> None:
        self.room.set()
        self.room = trio.Event()


class _Wire:
    """What both ends of a connection share."""

    def __init__(self, number: int, weather: Weather, random: Random, trace: Trace) -> None:
        self.number = number
        self.weather = weather
        self.broken_at = inf
        self.pipes = (_Pipe(weather, random), _Pipe(weather, random))
        self._random = random
        self._trace = trace
        self._sent = 0

    def split(self, data: bytes) -> list[bytes]:
        """``data`` in the pieces that it travels in."""
        count = min(self._random.randint(1, self.weather.pieces), len(data))
        if count <= 1:
            return [data]
        cuts = sorted(self._random.sample(range(1, len(data)), count - 1))
        return [data[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def spend(self, piece: bytes) -> bytes:
        """What of a piece gets through before the connection is cut."""
        cut = self.weather.cut_after
        if cut is None:
            return piece
        left = max(0, cut - self._sent)
        self._sent += len(piece)
        if len(piece) < left:
            return piece
        self.break_off()
        return piece[:left]

    def break_off(self) -> None:
        """Cut the connection: both ends learn of it within a latency, by a reset."""
        if self.broken_at == inf:
            self._trace.note("cut", self.number)
            self.broken_at = trio.current_time() + self._random.random() * (self.weather.latency + self.weather.jitter)
            for pipe in self.pipes:
                while pipe.arrivals and pipe.arrivals[-1][0] > self.broken_at:
                    pipe.arrivals.pop()
                pipe.wake_reader()
                pipe.wake_writer()

    @property
    def broken(self) -> bool:
        return self.broken_at <= trio.current_time()


class SimulatedStream(trio.abc.HalfCloseableStream):
    """One end of a connection to one ``life`` of the service."""

    def __init__(self, wire: _Wire, side: int, life: int) -> None:
        self.life = life
        self._wire = wire
        self._in = wire.pipes[side]
        self._out = wire.pipes[1 - side]
        self.closed = False
        self.number = wire.number
        self._sending = self._receiving = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        with self._alone("_sending"):
            await trio.lowlevel.checkpoint()
            self._check_open()
            for piece in self._wire.split(bytes(data)) if data else ():
                await self._wait_for_room()
                if self._out.unheard:
                    self._wire.break_off()
                elif sent := self._wire.spend(piece):
                    self._out.put(sent)

    async def wait_send_all_might_not_block(self) -> None:
        with self._alone("_sending"):
            await trio.lowlevel.checkpoint()
            await self._wait_for_room()

    async def send_eof(self) -> None:
        with self._alone("_sending"):
            await trio.lowlevel.checkpoint()
            if not self.closed and self._out.ended_at < inf:
                return
            self._check_open()
            self._end()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        if max_bytes is not None and index(max_bytes) < 1:
            raise ValueError("max_bytes must be 1 or more")
        with self._alone("_receiving"):
            await trio.lowlevel.checkpoint()
            return await self._receive(max_bytes or _RECV_BYTES)

    async def _receive(self, most: int) -> bytes:
        pipe = self._in
        while True:
            now = trio.current_time()
            if self.closed:
                raise trio.ClosedResourceError
            first = pipe.arrivals[0][0] if pipe.arrivals else pipe.ended_at
            if first <= now and pipe.arrivals:
                return pipe.take(most)
            if self._wire.broken_at <= now:
                raise trio.BrokenResourceError("the connection was reset")
            if first <= now:
                return b""
            with trio.move_on_at(min(first, self._wire.broken_at)):
                await pipe.news.wait()

    async def aclose(self) -> None:
        unread = self._in.arrivals and self._in.arrivals[0][0] <= trio.current_time()
        if unread and not self.closed:
            self._wire.break_off()  # as TCP does it, where bytes were left unread
        self.vanish()
        self._in.unheard = True  # what still comes is answered with a reset
        self._end()
        await trio.lowlevel.checkpoint()

    def vanish(self) -> None:
        """Stop without a word, like a machine that lost its power: the other end sees silence."""
        self.closed = True
        self._in.wake_reader()
        self._out.wake_writer()

    def reset(self) -> None:
        """End with a RST."""
        self._wire.break_off()
        self.vanish()

    def _end(self) -> None:
        if self._out.ended_at == inf:
            self._out.ended_at = self._out.arrival()
            self._out.wake_reader()

    def _check_open(self) -> None:
        if self.closed or self._out.ended_at < inf:
            raise trio.ClosedResourceError
        if self._wire.broken:
            raise trio.BrokenResourceError("the connection was reset")

    async def _wait_for_room(self) -> None:
        self._check_open()
        while self._out.under_way >= self._wire.weather.window:
            with trio.move_on_at(self._wire.broken_at):
                await self._out.room.wait()
            self._check_open()

    @contextmanager
    def _alone(self, doing: str) -> Iterator[None]:
        """One task at a time may send, and one receive."""
        if getattr(self, doing):
            raise trio.BusyResourceError("another task does it already")
        setattr(self, doing, True)
        try:
            yield
        finally:
            setattr(self, doing, False)


class SimulatedListener(trio.abc.Listener[SimulatedStream]):
    """What one ``life`` of the service accepts from."""

    def __init__(self, network: Network, life: int) -> None:
        self.life = life
        self._network = network
        self._waiting: deque[SimulatedStream] = deque()
        self._news = trio.Event()
        self.accepted: list[SimulatedStream] = []

    def add(self, stream: SimulatedStream) -> None:
        """A client has connected."""
        self._waiting.append(stream)
        self._news.set()

    async def accept(self) -> SimulatedStream:
        await trio.lowlevel.checkpoint()
        while not self._waiting:
            self._news = trio.Event()
            await self._news.wait()
        stream = self._waiting.popleft()
        self.accepted.append(stream)
        return stream

    async def aclose(self) -> None:
        self.stop()
        await trio.lowlevel.checkpoint()

    def stop(self) -> None:
        """Listen no more; those who were not accepted are reset, as the kernel does."""
        self._network.forget(self)
        while self._waiting:
            self._waiting.popleft().reset()


class Network:
    """Where clients find the service, whichever life of it listens."""

    def __init__(self, random: Random, trace: Trace) -> None:
        self._random = random
        self._trace = trace
        self._listener: SimulatedListener | None = None
        self._connections = 0

    def listen(self, life: int) -> SimulatedListener:
        """A listener in the place of the last one."""
        self._listener = SimulatedListener(self, life)
        return self._listener

    def forget(self, listener: SimulatedListener) -> None:
        """This one listens no more."""
        if self._listener is listener:
            self._listener = None

    async def connect(self, weather: Weather) -> SimulatedStream:
        """A connection to whoever listens. Raises OSError when nobody does."""
        self._connections += 1
        number = self._connections
        await trio.sleep(weather.latency)
        listener = self._listener
        if listener is None:
            self._trace.note("refused", number)
            raise ConnectionRefusedError
        wire = _Wire(number, weather, Random(self._random.random()), self._trace)
        listener.add(SimulatedStream(wire, 1, listener.life))
        self._trace.note("connected", number)
        return SimulatedStream(wire, 0, listener.life)

    def crash(self, listener: SimulatedListener) -> None:
        """The process that listened is gone: its connections are reset, and it sends nothing any more."""
        listener.stop()
        for stream in listener.accepted:
            stream.reset()
