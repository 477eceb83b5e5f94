"""The click command `hermes load`: arguments in, progress to stderr, summary to stdout.

Invariant: stdout holds the summary only, so ``--json`` can be piped. Exit status: 0 when answers came, 1 when none did
or the load could not begin, 2 for wrong arguments, 130 after Ctrl-C. ``hermes.cli`` imports `load`;
``python -m hermes.load.command`` runs it alone.
"""

from __future__ import annotations

import signal
from functools import partial
from typing import Any

import click

from hermes.config.notation import parse_duration
from hermes.load.options import DEFAULT_DURATION, DEFAULT_URL, LoadError, Options, parse_header
from hermes.load.payload import DEFAULT_PAYLOAD_BYTES, DEFAULT_TYPES

DURATION_WITH_TOTAL = 600.0
"""The bound in time, in seconds, when only a number of requests is asked for."""

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_EXIT_INTERRUPTED = 128 + signal.SIGINT


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, (int, float)):
            return float(value)
        try:
            return float(value) if value.replace(".", "", 1).isdecimal() else parse_duration(value)
        except ValueError:
            self.fail(f"{value!r} is no duration; write it as 500ms, 30s or 1m30s", param, ctx)


@click.command(short_help="Generate load and measure the answers.")
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Where to POST; http only.")
@click.option("-c", "--connections", default=64, show_default=True, help="Keep-alive connections.")
@click.option("-d", "--duration", type=_Duration(), help="How long to send.  [default: 10s; 10m with --total]")
@click.option("-n", "--total", type=int, help="Stop after this many requests.")
@click.option("-r", "--rate", type=float, help="Requests a second on a fixed schedule (open loop).")
@click.option("-w", "--warmup", type=_Duration(), default=0.0, help="Load before it that is not counted.")
@click.option("--timeout", type=_Duration(), default=10.0, help="Give up on an answer.  [default: 10s]")
@click.option("-e", "--events", default=1, show_default=True, help="Events a POST; from 2 on as NDJSON.")
@click.option("--payload-bytes", default=DEFAULT_PAYLOAD_BYTES, show_default=True, help="JSON payload of an event.")
@click.option(
    "-t", "--type", "types", multiple=True, metavar="NAME", help="Event type; repeat for more.  [default: all four]"
)
@click.option("--unique-ids/--same-id", default=True, show_default=True, help="A new id an event, or one for all.")
@click.option("--gzip", is_flag=True, help="Compress bodies (with unique ids: work for this process too).")
@click.option("-H", "--header", "headers", multiple=True, metavar="'K: V'", help="Header field; repeat for more.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def load(as_json: bool, quiet: bool, **arguments: Any) -> None:
    """POST generated events and report rate, latency and codes.

    Without --rate each connection sends its next request as soon as the last one is answered (closed loop): what can
    the server take? With --rate requests are due on a fixed schedule (open loop) and latency counts from the moment a
    request was due, so that a stall shows in full, also in the requests that had to wait to be sent ("coordinated
    omission"): how does the server feel at this rate?

    Ctrl-C ends the run early and prints the summary so far.
    """
    try:
        _run(_options(**arguments), as_json=as_json, quiet=quiet)
    except LoadError as error:
        raise click.ClickException(str(error)) from error


def _options(
    headers: tuple[str, ...], types: tuple[str, ...], duration: float | None, total: int | None, **others: Any
) -> Options:
    if duration is None:
        duration = DEFAULT_DURATION if total is None else DURATION_WITH_TOTAL
    return Options(
        headers=tuple(map(parse_header, headers)),
        types=types or DEFAULT_TYPES,
        duration=duration,
        total=total,
        **others,
    )


def _run(options: Options, *, as_json: bool, quiet: bool) -> None:
    # Imported here, since `hermes serve` imports this module too, and these take a part of its start.
    import msgspec
    import trio
    from rich.console import Console

    from hermes.load.client import run_load
    from hermes.load.report import ProgressDisplay, summary_report

    run = partial(run_load, options, stop_on=_STOP_SIGNALS)
    if quiet:
        summary = trio.run(run)
    else:
        with ProgressDisplay(Console(stderr=True), options) as display:
            summary = trio.run(partial(run, display.show, progress_interval=display.interval))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(summary)))
    else:
        Console().print(summary_report(summary, options))
    if summary.interrupted:
        raise SystemExit(_EXIT_INTERRUPTED)
    if not summary.requests:
        raise SystemExit(1)


if __name__ == "__main__":
    load()
