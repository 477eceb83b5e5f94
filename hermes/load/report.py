"""Shows a run to a person: a live display on a terminal, a line a second elsewhere, and the summary.

Invariant: a refresh draws four short lines, a fifth of a second apart.
"""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hermes.load.options import Options
from hermes.load.reactor import Progress
from hermes.load.tally import Summary

# The display is drawn in the loop that also sends: more refreshes would show in the tail latencies. ``--quiet`` turns
# the display off.
LIVE_INTERVAL = 0.2
PLAIN_INTERVAL = 1.0


class ProgressDisplay:
    """Shows the progress of a run on ``console``.

    Enter the display around the run, and pass `show` to the run::

        with ProgressDisplay(console, options) as display:
            summary = await run_load(options, display.show, progress_interval=display.interval)
    """

    def __init__(self, console: Console, options: Options) -> None:
        self._options = options
        self._console = console
        # auto_refresh would start a thread that competes with the sending loop for the interpreter.
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._before: Progress | None = None
        self.interval = PLAIN_INTERVAL if self._live is None else LIVE_INTERVAL

    def __enter__(self) -> ProgressDisplay:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: Progress) -> None:
        """Draw the display anew, or print the next line."""
        pace, outcome = progress_lines(progress, self._before)
        self._before = progress
        if self._live is None:
            # Not a terminal: rich would wrap the line at 80 columns.
            self._console.print(f"{pace} · {outcome}", soft_wrap=True, highlight=False)
            return
        duration = self._options.warmup if progress.phase == "warm-up" else self._options.duration
        done = duration - progress.left
        # A run with a total may end before its duration: show the share that is nearer to the end.
        if self._options.total is not None and progress.phase != "warm-up":
            done = max(done, duration * progress.summary.requests / self._options.total)
        lines = Table.grid()
        lines.add_row(_title(self._options))
        lines.add_row(ProgressBar(total=duration, completed=done, width=40))
        lines.add_row(Text(pace, overflow="fold"))
        lines.add_row(Text(outcome, overflow="fold"))
        self._live.update(lines, refresh=True)


def progress_lines(progress: Progress, before: Progress | None) -> tuple[str, str]:
    """Return the current pace (the rate since ``before``) and the results so far, one line each.

    ::

        pace, outcome = progress_lines(progress, before)
        console.print(pace, outcome, sep="\\n")
    """
    summary = progress.summary
    requests, elapsed = summary.requests, summary.elapsed
    # The first rate of a phase is not counted from the phase before.
    if before is not None and before.phase == progress.phase and before.summary.elapsed < elapsed:
        requests -= before.summary.requests
        elapsed -= before.summary.elapsed
    pace = (
        f"{progress.phase} {progress.left:.1f} s left · {requests / elapsed:,.0f} req/s · "
        f"{progress.in_flight:,} in flight"
    )
    outcome = (
        f"p50 {format_seconds(summary.latency.p50)}",
        f"p99 {format_seconds(summary.latency.p99)}",
        *(f"{name}: {count:,}" for name, count in (summary.codes | summary.errors).items()),
    )
    return pace, " · ".join(outcome)


def summary_report(summary: Summary, options: Options) -> RenderableType:
    """Return the summary as tables: amounts and rates, latencies, codes and errors.

    ::

        console.print(summary_report(await run_load(options), options))
    """
    amounts = Table("", "count", "per second", box=None, pad_edge=False)
    answers = Table("", "count", "share", box=None, pad_edge=False)
    for table in (amounts, answers):
        for column in table.columns[1:]:
            column.justify = "right"
    amounts.add_row("requests", f"{summary.requests:,}", f"{summary.requests_per_second:,.0f}")
    amounts.add_row("events", f"{summary.events:,}", f"{summary.events_per_second:,.0f}")
    for name, size in (("sent", summary.bytes_sent), ("received", summary.bytes_received)):
        amounts.add_row(name, format_bytes(size), format_bytes(size / summary.elapsed))
    latency = summary.latency
    latencies = Table(
        "p50", "p90", "p99", "p99.9", "max", box=None, pad_edge=False, title="latency", title_justify="left"
    )
    latencies.add_row(*map(format_seconds, (latency.p50, latency.p90, latency.p99, latency.p99_9, latency.max)))
    for code, count in summary.codes.items():
        style = "green" if code.startswith("2") else "yellow"
        answers.add_row(Text(code, style), f"{count:,}", f"{count / summary.requests:.2%}")
    for kind, count in summary.errors.items():
        answers.add_row(Text(kind, "red"), f"{count:,}", "")
    parts: list[RenderableType] = [_title(options), "", amounts, "", latencies, "", answers]
    parts += [Text(note, "yellow") for note in _notes(summary)]
    return Group(*parts)


def format_seconds(seconds: float) -> str:
    """Return a time with three digits.

    >>> format_seconds(0.00124)
    '1.24 ms'
    >>> format_seconds(12.5)
    '12.5 s'
    """
    for unit, length in (("s", 1.0), ("ms", 1e-3)):
        # From 0.9995 on, three digits round up to 1.00 of the larger unit; "1000 ms" has four.
        if seconds >= length * 0.9995:
            return f"{_three_digits(seconds / length)} {unit}"
    return f"{_three_digits(seconds * 1e6)} µs"


def format_bytes(size: float) -> str:
    """Return an amount with three digits.

    >>> format_bytes(1_710_000)
    '1.71 MB'
    """
    for unit, length in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size >= length * 0.9995:
            return f"{_three_digits(size / length)} {unit}"
    return f"{size:.0f} B"


def _three_digits(value: float) -> str:
    if value >= 99.95:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"


def _title(options: Options) -> Text:
    pace = "closed loop" if options.rate is None else f"open loop, {options.rate:g} requests/s"
    events = "1 event" if options.events == 1 else f"{options.events} events"
    return Text(f"{options.url}\n{options.connections} connections · {pace} · {events} a request", "bold")


def _notes(summary: Summary) -> list[str]:
    notes = []
    if summary.interrupted:
        notes.append(f"Interrupted after {summary.elapsed:.1f} s.")
    if summary.lost:
        notes.append(f"Requests without an answer: {summary.lost:,}.")
    if summary.unsent:
        why = "the rate is more than the server answers over these connections."
        if summary.errors:
            why = "connections were lost. Did the server stop?"
        notes.append(f"{summary.unsent:,} requests of the schedule were never sent: {why}")
    return notes
