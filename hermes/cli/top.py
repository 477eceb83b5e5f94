"""``hermes top``: draws the dashboard's content in the terminal.

Invariants: the drawing is a function of a status and of the terminal's width, and no number is cut off at any width;
names and texts from elsewhere are escaped, and are never markup. Follows ``/live``, and reconnects after a loss.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

import click
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Column, Table
from rich.text import Text

from hermes.base.quoting import printable
from hermes.console.client import (
    CLIENT_ENVIRONMENT,
    CLIENT_EXITS,
    AdminClient,
    Unreachable,
    parse_status,
    with_client,
)
from hermes.console.manual import Manual, ManualCommand
from hermes.console.operator import tells_the_operator
from hermes.dead_letters.desk import DeadLettersStatus
from hermes.events.engine.status_types import EventsStatus, SinkStatus
from hermes.observe.service_status import ServiceStatus

KINDS = {"events": EventsStatus, "dead_letters": DeadLettersStatus}
"""The parts that have a place of their own on the screen; another part has one line of its plain values."""

_BLOCKS = " ▁▂▃▄▅▆▇█"
# Seconds of the rate's history, a column each.
_SPARK = 60
# Minutes of the aggregates, a column each.
_MINUTES = 45
# With less room the bars move below the names.
_FEWEST_MINUTES = 15
# Columns that the labels of the events take, with the room around them.
_LABELS = 14
_NUMBERS = ("delivered", "per s", "backlog", "lag", "dead", "dropped", "retries")
# The rhythm of the status: a service that restarts is back on the screen within a second.
_RETRY_SECONDS = 1.0
# Seconds after which dead letters are counted again, because others may have replayed or purged some.
_LETTERS_SECONDS = 10.0
# A lag of more seconds is shown in yellow.
_LATE = 10.0
_BREAKERS = {"closed": ("●", "green"), "half_open": ("◐", "yellow"), "open": ("■", "red")}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


@click.command(
    "top",
    cls=ManualCommand,
    manual=Manual(
        examples=(
            ("The Hermes of this machine:", "hermes top"),
            ("Once, of another Hermes:", "hermes top --once --url http://10.0.0.7:8081"),
            ("For a script:", "hermes top --json | jq '.parts.events.sinks[] | {name, lag}'"),
        ),
        exits=CLIENT_EXITS,
        environment=CLIENT_ENVIRONMENT,
        see_also=("hermes tap", "hermes dlq list", "hermes config explain"),
    ),
)
@click.option("--once", is_flag=True, help="Print the status once, and end; the default without a terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print the status as one JSON object, and end.")
@tells_the_operator
@with_client
def top(client: AdminClient, once: bool, as_json: bool) -> None:
    """Watch a running Hermes: rates, queue, sinks and their lag.

    The screen is drawn every second, until Ctrl-C. A service that stops is waited for. The content is that of the
    dashboard at ADMIN_ADDR.
    """
    if as_json:
        data = client.raw_status()
        # For its error: an answer that is no status must not reach a script with exit code 0.
        parse_status(data, KINDS)
        click.echo(data)
        return
    # rich would colour each number and path by itself.
    console = Console(highlight=False)
    with suppress(KeyboardInterrupt):
        # Before the screen is taken: an address where nobody answers is told in one line.
        status = client.status(KINDS)
        # Without a terminal the screen would be drawn into a file for ever.
        if once or not console.is_terminal:
            console.print(draw(status, client.url, letters=client.dead_letters()))
            return
        # auto_refresh would start a thread; the status arrives every second anyway.
        with Live(console=console, screen=True, auto_refresh=False) as live:
            _watch(client, live, status)


def _watch(client: AdminClient, live: Live, last: ServiceStatus) -> None:
    """Draw the screen every second, for ever. If the service stops, wait until it is back."""
    letters = _Letters(client)
    while True:
        try:
            for status in client.watch(KINDS):
                last = status
                live.update(draw(status, client.url, letters=letters.count(status)), refresh=True)
            trouble = "the service has been stopped"
        except Unreachable as error:
            trouble = error.message
        # With the last count: a service that does not answer cannot count its letters anew.
        live.update(draw(last, client.url, trouble, letters.known), refresh=True)
        time.sleep(_RETRY_SECONDS)


class _Letters:
    """The number of stored dead letters. A count is a query, so it is made only when the number may have changed."""

    def __init__(self, client: AdminClient) -> None:
        self._client = client
        self.known: int | None = None
        """The number at the last count."""
        self._asked: tuple[float, ...] = ()

    def count(self, status: ServiceStatus) -> int | None:
        """Return the number of dead letters, at most some seconds old; None if the store did not answer."""
        counts: DeadLettersStatus | None = status.parts.get("dead_letters")
        if counts is None:
            return None
        # `started`, because the counts of a restarted service begin at 0 again.
        state = status.started, counts.added, counts.evicted, status.now // _LETTERS_SECONDS
        if state != self._asked:
            self.known, self._asked = self._client.dead_letters(), state
        return self.known


def draw(status: ServiceStatus, url: str, trouble: str = "", letters: int | None = None) -> RenderableType:
    """Return the whole screen. ``trouble`` says why the status is old; ``letters`` is the number of dead letters."""
    return _Screen(status, url, trouble, letters)


@dataclass(frozen=True)
class _Screen:
    """The screen of a status, drawn for the width of the console that prints it."""

    status: ServiceStatus
    url: str
    trouble: str
    letters: int | None

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        status, width = self.status, options.max_width
        events: EventsStatus | None = status.parts.get("events")
        yield _heading(status, self.url)
        yield Text()
        yield _numbers(status, events, width)
        if events is not None:
            yield from (Text(), _sinks(events, width))
            notes = [note for sink in events.sinks for note in _notes(sink, status.now)]
            if notes:
                yield from (Text(), *notes)
        # Counted in the store: after a restart the column of this run says 0, although there are letters.
        if self.letters:
            words = f"dead letters: {self.letters:,} kept, see `hermes dlq list`"
            yield from (Text(), Text(words, style="red"))
        if events is not None:
            yield from _minutes(events, width)
        if others := _other_parts(status):
            yield from (Text(), *others)
        if self.trouble:
            yield from (Text(), Text(f"Not of now: {printable(self.trouble)}. Trying again …", style="red"))


def spark(values: Sequence[float], width: int) -> str:
    """Return the last ``width`` values as blocks of matching height; any value but 0 is visible.

    >>> spark([0, 1, 50, 100], width=4)
    ' ▁▄█'
    """
    # The newest values: a narrow terminal shows less of the past.
    values = values[-width:]
    top_value = max(values, default=0)
    # The first block is the space, which stands for 0 alone.
    steps = len(_BLOCKS) - 1
    blocks = [_BLOCKS[max(1, round(value / top_value * steps)) if value else 0] for value in values]
    return "".join(blocks).rjust(width)


def short_duration(seconds: float) -> str:
    """Return a duration in its largest one or two units.

    >>> short_duration(0.25), short_duration(3700)
    ('250 ms', '1 h 1 min')
    """
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs" if seconds > 0 else "0 s"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    # Two units at most: the seconds of a day say nothing.
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {whole} s"


def short_size(size: float) -> str:
    """Return a number of bytes in its largest unit.

    >>> short_size(1536)
    '1.5 KiB'
    """
    place = 0
    while size >= 1024 and place < len(_UNITS) - 1:
        size /= 1024
        place += 1
    return f"{size:.1f} {_UNITS[place]}" if place and size < 100 else f"{size:.0f} {_UNITS[place]}"


def _heading(status: ServiceStatus, url: str) -> Text:
    heading = Text("Hermes ", style="bold")
    facts = [status.version, url, f"up {short_duration(max(1.0, status.now - status.started))}", status.durability]
    heading.append(" · ".join(map(printable, facts)), style="not bold")
    # The service stops soon; the numbers will not go on.
    if status.draining:
        heading.append(" · stopping", style="yellow")
    return heading


def _numbers(status: ServiceStatus, events: EventsStatus | None, width: int) -> Table:
    """Return the numbers of the events and those of the process, a line each."""
    # Folded and not cut: the last column has numbers too, and no number is cut off at any width.
    grid = Table.grid(Column(no_wrap=True), Column(no_wrap=True), Column(overflow="fold"), padding=(0, 2))
    if events is not None:
        _add_events(grid, events, width)
    requests = status.requests
    if requests.p50 is not None and requests.p99 is not None:
        # Median and 99th percentile: the usual request, and the slow one.
        both = f"median {short_duration(requests.p50)}, 99th {short_duration(requests.p99)}"
        grid.add_row("requests", f"{requests.count:,}/min", both)
    memory = "" if status.memory is None else f", {short_size(status.memory)} of memory"
    grid.add_row("process", f"{status.connections:,} conn.", f"loop {short_duration(status.loop_lag)} late{memory}")
    return grid


def _add_events(grid: Table, status: EventsStatus, width: int) -> None:
    rejected = sum(status.rejected.values())
    rate = Text(f"{status.rate:,.0f}/s", style="bold")
    # The labels and numbers come first, and the history gets the rest of the line.
    room = min(_SPARK, width - _LABELS - max(len(rate), len(f"{status.received:,}")))
    grid.add_row("events", rate, Text(spark(status.history, max(1, room)), style="blue"))
    shown = Text(f"{rejected:,} rejected", style="red" if rejected else "dim")
    reasons = " · ".join(f"{printable(reason)} {count:,}" for reason, count in status.rejected.items() if count)
    grid.add_row("received", f"{status.received:,}", shown.append(f"  {reasons}", style="dim"))
    queue = status.queue
    # The queue is full as soon as one of its two bounds is reached.
    share = max(queue.events / queue.capacity, queue.bytes / queue.capacity_bytes)
    grid.add_row("queue", f"{queue.events:,}", _gauge(share).append(f" of {queue.capacity:,}"))
    if (journal := status.journal) is not None:
        gauge = _gauge(journal.bytes / journal.capacity).append(f" of {short_size(journal.capacity)}")
        if journal.failing is not None:
            gauge.append(f"  cannot be written: {printable(journal.failing)}", style="red")
        grid.add_row("journal", short_size(journal.bytes), gauge)


def _gauge(share: float, width: int = 20) -> Text:
    filled = min(width, round(share * width))
    # A thin bar for a share that rounds to nothing: not empty is another state than empty.
    blocks = "█" * filled or ("▏" if share else "")
    # Red while there is still time to act.
    style = "red" if share > 0.9 else "yellow" if share > 0.7 else "blue"
    return Text(blocks, style=style).append("░" * (width - len(blocks)), style="dim")


def _sinks(status: EventsStatus, width: int) -> RenderableType:
    """Return one row for each sink; on a narrow terminal, each name with its numbers below."""
    rows = [_cells(sink) for sink in status.sinks]
    titles = ("sink", "breaker", *_NUMBERS)
    # Measured before rich draws: rich would cut numbers to fit the width.
    longest = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    if sum(longest) + 2 * (len(titles) - 1) <= width:
        numbers = [Column(name, justify="right", no_wrap=True) for name in _NUMBERS]
        table = Table(
            Column("sink", no_wrap=True),
            Column("breaker", no_wrap=True),
            *numbers,
            box=None,
            header_style="dim",
            padding=(0, 2, 0, 0),
            pad_edge=False,
        )
        for row in rows:
            table.add_row(*row)
        return table
    lines = []
    for name, breaker, *counts in rows:
        lines.append(Text.assemble(name, "  ", breaker))
        parts = zip(_NUMBERS, counts, strict=True)
        # Each number with its name, because there is no heading above.
        lines += wrap_parts([Text.assemble((f"{title} ", "dim"), count) for title, count in parts], width)
    return Group(*lines)


def _cells(sink: SinkStatus) -> list[Text]:
    """Return the cells of a sink's row: its name, its breaker, and its numbers in the order of ``_NUMBERS``."""
    # A newer service may have a state that this version does not know.
    mark, colour = _BREAKERS.get(sink.breaker, ("?", "red"))
    state = printable(sink.breaker.replace("_", "-"))
    if sink.opens_in:
        state += f", {short_duration(sink.opens_in)}"
    dropped = sum(sink.dropped.values())
    # An unknown lag is shown like a large one: somebody should look.
    late = sink.lag is None or sink.lag > _LATE
    return [
        Text(printable(sink.name), style="bold"),
        Text.assemble((f"{mark} ", colour), state),
        Text(f"{sink.delivered:,}"),
        Text(f"{sink.rate:,.0f}"),
        Text(f"{sink.in_flight:,}"),
        Text("?" if sink.lag is None else short_duration(sink.lag), style="yellow" if late else ""),
        Text(f"{sink.dead_lettered:,}", style="red" if sink.dead_lettered else ""),
        Text(f"{dropped:,}", style="red" if dropped else ""),
        Text(f"{sink.retries:,}"),
    ]


def wrap_parts(parts: Sequence[Text], width: int) -> list[Text]:
    """Return short parts on as few lines as needed, each part whole, with a dot between the parts of a line."""
    lines: list[Text] = []
    for part in parts:
        # 3: the dot with its spaces.
        if lines and len(lines[-1]) + len(part) + 3 <= width:
            lines[-1].append(" · ", "dim").append_text(part)
        else:
            lines.append(Text("  ").append_text(part))
    return lines


def _notes(sink: SinkStatus, now: float) -> list[Text]:
    """Return the faults of a sink, a line each."""
    lines = []
    if sink.failed_at is not None:
        # The clock of the service's machine may have been set back since.
        ago = short_duration(max(0.0, now - sink.failed_at))
        lines.append(f"last error {ago} ago: {sink.failure}")
    if sink.on_disk:
        lines.append(f"behind: {sink.on_disk:,} events are only in the journal")
    if dropped := " · ".join(f"{reason} {count:,}" for reason, count in sink.dropped.items()):
        lines.append(f"dropped: {dropped}")
    if sink.held:
        lines.append(f"held: {sink.held:,} events, because the sink refuses every event for one reason")
    if sink.evicted:
        lines.append(f"lost: {sink.evicted:,} dead letters had to make room for newer ones")
    # Three reasons: a faulty producer makes one or two, and the rest is in `hermes dlq list`.
    refused = sorted(sink.refusals.items(), key=lambda item: -item[1])[:3]
    if refused:
        lines.append("refused for good: " + " · ".join(f"{reason} ({count:,})" for reason, count in refused))
    style = "red" if sink.breaker == "open" else "dim"
    return [Text(f"{printable(sink.name)}: {printable(line)}", style=style, overflow="fold") for line in lines]


def _other_parts(status: ServiceStatus) -> list[Text]:
    """Return a line for each part that has no place of its own on the screen, with the numbers that it shows."""
    lines = []
    for name, shown in status.parts.items():
        # The statuses of `KINDS` are structs by now: a dict is a part without a place of its own.
        if isinstance(shown, dict):
            plain = [f"{key} {value}" for key, value in shown.items() if isinstance(value, str | int | float)]
            lines.append(Text(printable(f"{name}: {', '.join(plain)}"), overflow="fold"))
    return lines


def _minutes(status: EventsStatus, width: int) -> Iterator[RenderableType]:
    """Yield the counts by minute, and how many events are of another time."""
    if status.aggregates.types:
        yield from (Text(), _aggregates(status, width))
    # The window does not follow the events: one event of the year 9999 would move it there.
    if elsewhere := status.aggregates.elsewhere:
        words = f"{elsewhere:,} event{'s' * (elsewhere != 1)} with a timestamp outside the last hour"
        yield from (Text(), Text(words, style="dim"))


def _aggregates(status: EventsStatus, width: int) -> RenderableType:
    """Return the counts of the last minutes by type; of fewer minutes on a narrow terminal."""
    shown = status.aggregates
    names = [printable(kind) for kind in shown.types]
    longest = max(map(len, ("type", *names)))
    totals = max(len(f"{sum(counts):,}") for counts in shown.counts)
    # 4: two gaps of two columns each between the three columns.
    room = width - longest - max(totals, len("events")) - 4
    # Long names leave no room for the bars beside them.
    below = room < _FEWEST_MINUTES
    # Below the names the bars have the whole width.
    minutes = min(_MINUTES, width - max(totals, len("events")) - 4 if below else room)
    title = f"the last {minutes} min"
    if below:
        parts = [Text(title, style="dim")]
        for name, counts in zip(names, shown.counts, strict=True):
            line = Text(spark(counts[-minutes:], minutes), style="blue")
            parts += [Text(name, overflow="fold"), line.append(f"  {sum(counts[-minutes:]):,}", style="default")]
        return Group(*parts)
    # Folded and not cut, because no number is cut off at any width.
    bars = Column(title, width=minutes, overflow="fold")
    events = Column("events", justify="right", no_wrap=True)
    table = Table(
        Column("type", no_wrap=True), bars, events, box=None, header_style="dim", padding=(0, 2, 0, 0), pad_edge=False
    )
    for name, counts in zip(names, shown.counts, strict=True):
        bar = Text(spark(counts[-minutes:], minutes), style="blue")
        table.add_row(Text(name), bar, f"{sum(counts[-minutes:]):,}")
    return table
