"""The interface between the service and its parts: the declaration of a part, and the part while it runs.

A part is one system: events, dead letters, traces. A `Part` is a declaration, with nothing open. The service composes
`RunningPart` objects, and knows no part by its name.

    JOBS = Part("jobs", "Runs jobs on a fleet of workers", open_jobs, settings=JobSettings, needs=("dead_letters",))

Invariants: a part is opened after the parts that it needs, runs inside them, and ends before them, so that a stop is
dataflow from the inside out. A bug in a task of a part cancels at once everything that runs inside this part.
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
    # For type checkers alone: a list of the commands loads the declarations of parts, but neither server nor storage.
    from hermes.core import Core
    from hermes.dead_letters.view import LetterView
    from hermes.net.control.endpoint import Endpoint
    from hermes.net.control.panel import Panel
    from hermes.observe.metrics import MetricSource

Inside = Callable[[], Awaitable[None]]
"""The work inside a part: the parts that need this part, and innermost the addresses where requests come in."""


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
        """The addresses of the listener, as host and port."""

    async def serve(self) -> None:
        """Serve until cancelled."""

    async def drain(self) -> None:
        """Accept no more connections, and return when every request in flight is answered. May be cancelled."""


@dataclass(frozen=True)
class PartStatus:
    """The status of a part in ``GET /status``, under the part's name.

    ``snapshot(now, wall)`` gives a value of the type ``kind``, as of ``now`` of the run loop's clock, which is ``wall``
    in Unix seconds. A snapshot has to be quick and bounded. ``tick(now)`` is called every second, for a part that shows
    rates.

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
    """An open part: everything that the part brings to the service.

    The parts that need this part get ``value``. ``endpoints`` are served on HTTP_ADDR or ADMIN_ADDR, and described in
    the document of that address. ``panels`` are sections of the dashboard, which show the ``status``. ``metrics`` are
    read by ``GET /metrics``. ``listeners`` serve beside the HTTP addresses.

    ``run(inside)`` runs the tasks of the part around ``inside``, and returns once ``inside`` has returned, the tasks
    have ended and everything that the part has accepted has an outcome. ``drain(within)`` is called when a stop begins,
    while ``inside`` still runs: waiting requests get their answers within so many seconds. ``end_streams()`` is called
    later in a stop, before ADMIN_ADDR closes: an answer that never ends has to end now. ``give_up()`` is called instead
    if a task does not end: the process is about to end, so the part logs its accounts and saves its progress.

    ``why_not_ready()`` returns one line for ``GET /ready``, or None. ``settled()`` is called after the service has
    closed, and decides the exit code: whether everything accepted has an outcome and the accounts add up. ``show()``
    returns the part's members of ``GET /debug/accounting``, by names of the part's own.

        async def run(inside: Inside) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)  # the tasks of the part
                await inside()
                nursery.cancel_scope.cancel()

        running = RunningPart(value="for the parts that need this one", run=run)
        await running.run(trio.lowlevel.checkpoint)
    """

    # Of any type: the service passes the value on to other parts, and knows no part.
    value: Any = None
    endpoints: Sequence[Endpoint] = ()
    metrics: Sequence[MetricSource] = ()
    listeners: Sequence[Listener] = ()
    panels: Sequence[Panel] = ()
    status: PartStatus | None = None
    # Each default does nothing, so that the service calls every part alike and asks no part which of these it has.
    run: Callable[[Inside], Awaitable[None]] = run_inside
    drain: Callable[[float], None] = lambda _within: None
    end_streams: Callable[[], None] = lambda: None
    give_up: Callable[[], Awaitable[None]] = give_up_nothing
    why_not_ready: Callable[[], str | None] = lambda: None
    settled: Callable[[], bool] = lambda: True
    show: Callable[[], Mapping[str, object]] = dict


@dataclass(frozen=True)
class Command:
    """A command of ``hermes``, from a part or from Hermes itself. The command is imported when it is run.

    The command is listed under ``heading``, such as ``LOOK INTO IT``. ``place`` is ``module:attribute``. ``summary`` is
    the first line of the command's docstring, so that a list of the commands imports none of them.

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
    """The declaration of a part; nothing is open yet.

    ``open(settings, core)`` gets an instance of ``settings`` and the service's `Core`, and returns an async context
    manager whose value is the `RunningPart`. ``open`` raises `hermes.ConfigError` or `hermes.PluginError` if something
    cannot be opened, before the first request is taken. The parts in ``needs`` are opened before, and closed after.

    ``check(settings, service)`` raises `hermes.ConfigError` for mistakes that show without opening anything. A part
    whose variables depend on other variables, as a sink's on SINKS, has a ``configure`` that reads its settings.
    ``letters()`` says how the part's dead letters are shown; None: plainly.

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
    # A function, so that the view is imported when a letter is shown: a list of the commands does without.
    letters: Callable[[], LetterView] | None = None
    commands: tuple[Command, ...] = ()


class Configure(Protocol):
    """Reads the settings of a part from an environment."""

    # Positional: a part names its parameters as it likes, as ``_service`` where it does not read the service's
    # settings.
    def __call__(self, environ: Mapping[str, str], service: Settings, mistakes: Mistakes, /) -> ReadSettings:
        """Return the part's settings, with ``mistakes`` collected; ``service`` has the settings of the service."""


@dataclass(frozen=True)
class ReadSettings:
    """The settings of a part: the ``value`` for its ``open``, and the groups of variables that were read.

    >>> ReadSettings(NoSettings(), groups=()).groups
    ()
    """

    value: Any
    groups: Sequence[Group]


@dataclass(frozen=True)
class ConfiguredPart:
    """A part that is to run, with its settings read."""

    part: Part
    settings: ReadSettings


def configure_part(part: Part, environ: Mapping[str, str], service: Settings, mistakes: Mistakes) -> ConfiguredPart:
    """Read and check the settings of a part, with ``mistakes`` collected: a bad value is replaced by the default.

    >>> part = Part("clock", "Tells the time", open=None)
    >>> configure_part(part, {}, Settings(), Mistakes()).settings.value
    NoSettings()
    """
    if part.configure is not None:
        settings = part.configure(environ, service, mistakes)
    else:
        values = try_read(part.settings, environ, mistakes)
        settings = ReadSettings(values, () if values is None else (Group(values),))
    # Without a value the mistakes have been collected already.
    if part.check is not None and settings.value is not None:
        with mistakes.collect():
            part.check(settings.value, service)
    return ConfiguredPart(part, settings)


def in_order(wanted: Iterable[str], find: Callable[[str], Part]) -> list[Part]:
    """Return the wanted parts and the parts that they need, each part after its needs.

    >>> store = Part("store", "Keeps", open=None)
    >>> jobs = Part("jobs", "Works", open=None, needs=("store",))
    >>> [part.name for part in in_order(["jobs"], {"jobs": jobs, "store": store}.__getitem__)]
    ['store', 'jobs']

    Raises `ValueError` for parts that need each other in a circle, and the errors of ``find``.
    """
    found: dict[str, Part] = {}
    # The parts from the wanted one down to the present one: a name that comes again closes a circle.
    path: list[str] = []

    def add(name: str) -> None:
        if name in path:
            raise ValueError(f"parts need each other in a circle: {' → '.join([*path, name])}")
        if name not in found:
            path.append(name)
            part = find(name)
            for needed in part.needs:
                add(needed)
            # Two parts that need the same third one are no circle.
            path.pop()
            # After the parts that it needs: a dict keeps the order in which its keys came.
            found[name] = part

    for name in wanted:
        add(name)
    return list(found.values())


@asynccontextmanager
async def open_parts(configured: Sequence[ConfiguredPart], core: Core) -> AsyncIterator[dict[str, RunningPart]]:
    """Open the parts in their order, and close them in the opposite order. Yields the open parts by name."""
    running: dict[str, RunningPart] = {}
    # Closes in the opposite order, so each part is open for as long as a part that needs it.
    async with AsyncExitStack() as opened:
        for each in configured:
            needed = {name: running[name].value for name in each.part.needs}
            part = each.part.open(each.settings.value, core.with_needed(needed))
            running[each.part.name] = await opened.enter_async_context(part)
        yield running


async def run_around(parts: Sequence[RunningPart], inside: Inside) -> None:
    """Run ``inside`` inside the last part, the last part inside the part before it, and so on."""
    # Around each other and not side by side: a stop ends the innermost first, and a bug in one part ends at once
    # everything that runs inside this part.
    if not parts:
        await inside()
        return
    outermost, *others = parts
    await outermost.run(partial(run_around, others, inside))
