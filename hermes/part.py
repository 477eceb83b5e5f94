"""The seam: what a part of Hermes declares, and what it is while it runs.

A part is one system: events, dead letters, traces. `Part` is its declaration, with nothing open. `RunningPart` is what
the service composes; the service knows no part by its name.

    JOBS = Part("jobs", "Runs jobs on a fleet of workers", open_jobs, settings=JobSettings, needs=("dead_letters",))

Invariants: a part is opened after the parts that it needs, runs inside them, and ends before them, so that a stop is
dataflow from the inside out. A bug in a task of a part cancels at once all that runs inside this part.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from hermes.config import Group, Mistakes, NoSettings, try_read
from hermes.settings import Settings

if TYPE_CHECKING:
    from hermes.core import Core
    from hermes.net.control.endpoint import Endpoint
    from hermes.net.control.panel import Panel
    from hermes.observe.metrics import MetricSource

Inside = Callable[[], Awaitable[None]]
"""What runs inside a part: the parts that need it, and at last the addresses where requests come in."""


async def run_inside(inside: Inside) -> None:
    """The `RunningPart.run` of a part that has no task."""
    await inside()


async def give_up_nothing() -> None:
    """The `RunningPart.give_up` of a part that keeps nothing in memory."""


class Listener(Protocol):
    """A server of a part, on an address of its own.

    ::

        class Echo:
            def __init__(self, listener: trio.SocketListener) -> None:
                self._listener = listener
                self.addresses = [listener.socket.getsockname()[:2]]

            async def serve(self) -> None:
                await trio.serve_listeners(self._answer, [self._listener])

            async def drain(self) -> None:
                await self._listener.aclose()

            async def _answer(self, stream: trio.SocketStream) -> None:
                async for data in stream:
                    await stream.send_all(data)
    """

    @property
    def addresses(self) -> Sequence[tuple[str, int]]:
        """Where it listens, as host and port."""

    async def serve(self) -> None:
        """Serve until cancelled."""

    async def drain(self) -> None:
        """Accept nothing more, and return when what is in flight is answered. May be cancelled."""


@dataclass(frozen=True)
class PartStatus:
    """What a part shows of itself in ``GET /status``, under its name.

    ``snapshot(now, wall)`` gives a value of the type ``kind``, as of ``now`` of the run loop's clock, which is ``wall``
    in Unix seconds. It has to be quick and bounded. ``tick(now)`` is called every second, for a part that shows rates.

    >>> class JobsStatus(msgspec.Struct):
    ...     waiting: int
    >>> PartStatus(JobsStatus, lambda _now, _wall: JobsStatus(3)).snapshot(0.0, 0.0)
    JobsStatus(waiting=3)
    """

    kind: type[msgspec.Struct]
    snapshot: Callable[[float, float], msgspec.Struct]
    tick: Callable[[float], None] = lambda _now: None


@dataclass(frozen=True)
class RunningPart:
    """A part that is open: what it brings to the service.

    ``value`` is what the parts that need this one get. ``endpoints`` are served on HTTP_ADDR or
    ADMIN_ADDR, and described in the document of that address. ``panels`` are sections of the dashboard, ``status`` is
    what they show. ``metrics`` are asked by ``GET /metrics``. ``listeners`` serve beside the HTTP addresses.

    ``run(inside)`` runs the tasks of the part around ``inside``, and returns once ``inside`` has returned, the tasks
    have ended and all that was taken has its outcome. ``drain(within)`` is called when a stop begins, while ``inside``
    still runs: requests that wait get their answers within so many seconds. ``give_up()`` is called in the place of all
    that if a task does not end: the process will end, so the part logs and saves what it knows.

    ``end_streams()`` is called later in a stop, before ADMIN_ADDR closes: an answer that never ends has to end now.

    ``why_not_ready()`` is one line for ``GET /ready``, or None. ``settled()`` is asked after the service has closed:
    whether everything that was taken has its outcome and the accounts add up. It decides the exit code. ``show()`` is
    what the part adds to ``GET /debug/accounting``, by names that are its own.

        async def run(inside: Inside) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)  # the tasks of the part
                await inside()
                nursery.cancel_scope.cancel()

        running = RunningPart(value="for the parts that need this one", run=run)
        await running.run(trio.lowlevel.checkpoint)
    """

    value: Any = None
    endpoints: Sequence[Endpoint] = ()
    metrics: Sequence[MetricSource] = ()
    listeners: Sequence[Listener] = ()
    panels: Sequence[Panel] = ()
    status: PartStatus | None = None
    run: Callable[[Inside], Awaitable[None]] = run_inside
    drain: Callable[[float], None] = lambda _within: None
    end_streams: Callable[[], None] = lambda: None
    give_up: Callable[[], Awaitable[None]] = give_up_nothing
    why_not_ready: Callable[[], str | None] = lambda: None
    settled: Callable[[], bool] = lambda: True
    show: Callable[[], Mapping[str, object]] = dict


@dataclass(frozen=True)
class Command:
    """A command of ``hermes``: that of a part, or one of Hermes's own. It is imported when somebody asks for it.

    ``heading`` is where it is listed, such as ``LOOK INTO IT``. ``place`` is ``module:attribute``. ``summary`` is the
    command's own first line, which a list of the commands shows.

    >>> Command("LEARN IT", "help", "hermes.console.help:help_command", "Show the page of a command.").load().name
    'help'
    """

    heading: str
    name: str
    place: str
    summary: str

    def load(self) -> Any:
        """Import the command, a `click.Command`."""
        module, _, attribute = self.place.partition(":")
        return getattr(import_module(module), attribute)


@dataclass(frozen=True)
class Part:
    """A part as it is declared; nothing is open yet.

    ``open(settings, core)`` gets an instance of ``settings`` and what every part stands on; it returns an async context
    manager whose value is the `RunningPart`. It raises `hermes.ConfigError` or `hermes.PluginError` for what cannot be
    opened, before the first request is taken. ``needs`` names the parts that are opened before, and closed after.

    ``check(settings, service)`` raises `hermes.ConfigError` for what can be told to be wrong without opening anything.
    A part whose variables depend on others, as those of sinks depend on SINKS, has a ``configure`` that reads them in
    the place of ``settings``.

        @asynccontextmanager
        async def open_clock(settings: object, core: Core) -> AsyncIterator[RunningPart]:
            yield RunningPart(value=time.time)

        CLOCK = Part("clock", "Tells the time", open_clock)
    """

    name: str
    summary: str
    open: Callable[[Any, Core], AbstractAsyncContextManager[RunningPart]]
    settings: type[msgspec.Struct] = NoSettings
    check: Callable[[Any, Settings], None] | None = None
    configure: Configure | None = None
    needs: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()


class Configure(Protocol):
    """Reads the settings of a part from an environment."""

    def __call__(self, environ: Mapping[str, str], service: Settings, mistakes: Mistakes) -> ReadSettings:
        """The settings, with ``mistakes`` collected; ``service`` has those of the service."""


@dataclass(frozen=True)
class ReadSettings:
    """The settings of a part: the value that its ``open`` gets, and the groups of variables that it was read from."""

    value: Any
    groups: Sequence[Group]


@dataclass(frozen=True)
class ConfiguredPart:
    """A part that is to run, with its settings read."""

    part: Part
    settings: ReadSettings


def configure_part(part: Part, environ: Mapping[str, str], service: Settings, mistakes: Mistakes) -> ConfiguredPart:
    """Read and check the settings of a part, with ``mistakes`` collected: the default stands for a bad value."""
    if part.configure is not None:
        settings = part.configure(environ, service, mistakes)
    else:
        values = try_read(part.settings, environ, mistakes)
        settings = ReadSettings(values, () if values is None else (Group(values),))
    if part.check is not None and settings.value is not None:
        with mistakes.collect():
            part.check(settings.value, service)
    return ConfiguredPart(part, settings)


def in_order(wanted: Iterable[str], find: Callable[[str], Part]) -> list[Part]:
    """The wanted parts and the parts that they need, each after those that it needs.

    >>> store = Part("store", "Keeps", open=None)
    >>> jobs = Part("jobs", "Works", open=None, needs=("store",))
    >>> [part.name for part in in_order(["jobs"], {"jobs": jobs, "store": store}.__getitem__)]
    ['store', 'jobs']

    Raises `ValueError` for parts that need each other in a circle, and what ``find`` raises.
    """
    found: dict[str, Part] = {}
    path: list[str] = []

    def add(name: str) -> None:
        if name in path:
            raise ValueError(f"parts need each other in a circle: {' → '.join([*path, name])}")
        if name not in found:
            path.append(name)
            part = find(name)
            for needed in part.needs:
                add(needed)
            path.pop()
            found[name] = part

    for name in wanted:
        add(name)
    return list(found.values())


@asynccontextmanager
async def open_parts(configured: Sequence[ConfiguredPart], core: Core) -> AsyncIterator[dict[str, RunningPart]]:
    """Open the parts in their order, and close them in the opposite one. By name."""
    running: dict[str, RunningPart] = {}
    async with AsyncExitStack() as opened:
        for each in configured:
            needed = {name: running[name].value for name in each.part.needs}
            part = each.part.open(each.settings.value, core.with_needed(needed))
            running[each.part.name] = await opened.enter_async_context(part)
        yield running


async def run_around(parts: Sequence[RunningPart], inside: Inside) -> None:
    """Run ``inside`` inside the last of the parts, which runs inside the one before it, and so on."""
    if not parts:
        await inside()
        return
    outermost, *others = parts
    await outermost.run(partial(run_around, others, inside))
