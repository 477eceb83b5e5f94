"""``hermes load``: reads the arguments, shows progress on stderr, prints the summary on stdout.

Invariant: stdout holds only the summary, so ``--json`` can be piped. The exit code says whether the server accepted the
load, so a script need not read the summary. The generator itself is ``hermes.load``.
"""

from __future__ import annotations

import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from hermes.config.notation import parse_duration
from hermes.console.manual import Manual, ManualCommand
from hermes.console.program import INTERRUPTED
from hermes.console.tables import open_console
from hermes.console.values import WholeNumber, complete_types
from hermes.load.options import DEFAULT_DURATION, DEFAULT_URL, LoadError, Options, parse_header
from hermes.load.payload import DEFAULT_PAYLOAD_BYTES, DEFAULT_TYPES

if TYPE_CHECKING:
    from hermes.load.tally import Summary

DURATION_WITH_TOTAL = 600.0
"""The bound in time, in seconds, of a run that was given only a number of requests."""

# SIGTERM too: a run that a script ends early still prints its summary.
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_FULL = ("429", "503")
"""The answers of a server that has no room at the moment. A load test may be there to find this limit, so they are no
failure of the run."""


class _Duration(click.ParamType[float]):
    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        # click converts the default of an option too, which is a number already.
        if isinstance(value, (int, float)):
            return float(value)
        try:
            # A plain number means seconds here, unlike in settings.
            # Digits and one dot alone: `float` would take "inf" and "nan" too.
            return float(value) if value.replace(".", "", 1).isdecimal() else parse_duration(value)
        except ValueError:
            self.fail(f"{value!r}: expected a duration such as 500ms, 30s or 1m30s", param, ctx)


class _Rate(click.ParamType[float]):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return float(value)
        except ValueError:
            self.fail(f"{value!r}: expected a number of requests a second", param, ctx)


@click.command(
    "load",
    cls=ManualCommand,
    manual=Manual(
        examples=(
            ("As fast as it goes, for ten seconds:", "hermes load"),
            ("How does it feel at 5,000 requests a second?", "hermes load --rate 5000 --duration 30s"),
            ("A thousand events a request, compressed:", "hermes load --events 1000 --gzip"),
            ("One event, to see whether it is taken:", "hermes load --total 1 --quiet"),
            ("A figure for a script:", "hermes load --json --quiet | jq .latency.p99"),
            ("With a key:", "hermes load --header 'X-API-Key: YOUR_KEY'"),
        ),
        exits={
            0: "The server took events; some answers may be 429 or 503, because the server was full.",
            1: "The server took no event, refused some for another reason (any other code beside 2xx), or left "
            "requests without an answer, as a server that dies during the run. stderr says which.",
            2: "A mistake on the command line.",
            INTERRUPTED: "Ended by Ctrl-C, with the summary so far.",
        },
        see_also=("hermes serve", "hermes top"),
    ),
)
@click.option("--url", default=DEFAULT_URL, show_default=True, help="Where to POST; http only.")
@click.option("-c", "--connections", type=WholeNumber(1), default=64, show_default=True, help="Keep-alive connections.")
@click.option("-d", "--duration", type=_Duration(), help="How long to send.  [default: 10s; 10m with --total]")
@click.option("-n", "--total", type=WholeNumber(1), help="Stop after this many requests.")
@click.option("-r", "--rate", type=_Rate(), help="Requests a second on a fixed schedule (open loop).")
@click.option("-w", "--warmup", type=_Duration(), default=0.0, help="Load before it that is not counted.")
# The default in words: click would show the number 10.0, without a unit.
@click.option("--timeout", type=_Duration(), default=10.0, help="Give up on an answer.  [default: 10s]")
@click.option(
    "-e", "--events", type=WholeNumber(1), default=1, show_default=True, help="Events a POST; from 2 on NDJSON."
)
@click.option(
    "--payload-bytes",
    type=WholeNumber(0),
    default=DEFAULT_PAYLOAD_BYTES,
    show_default=True,
    help="Payload of an event.",
)
@click.option(
    "-t",
    "--type",
    "types",
    multiple=True,
    metavar="NAME",
    shell_complete=complete_types,
    help="Event type; repeat for more.  [default: all four]",
)
@click.option("--unique-ids/--same-id", default=True, show_default=True, help="A new id an event, or one for all.")
@click.option("--random-ids", is_flag=True, help="Ids as of UUID v4; else they ascend, as those of v7.")
@click.option("--gzip", is_flag=True, help="Compress bodies (with unique ids: work for this process too).")
@click.option("-H", "--header", "headers", multiple=True, metavar="'K: V'", help="Header field; repeat for more.")
@click.option("--json", "as_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
def load(as_json: bool, quiet: bool, **arguments: Any) -> None:
    """POST generated events and report rate, latency and codes.

    Without --rate each connection sends its next request as soon as the last one is answered (closed loop): how much
    can the server take? With --rate requests are due on a fixed schedule (open loop) and latency counts from the moment
    a request was due, so that a stall shows in full, also in the requests that had to wait to be sent ("coordinated
    omission"): how does the server feel at this rate?

    Ctrl-C ends the run early and prints the summary so far. The events are real ones: choose a server of your own.
    """
    try:
        options = _options(**arguments)
    except LoadError as error:
        raise click.UsageError(str(error)) from error
    try:
        summary = _run(options, as_json=as_json, quiet=quiet)
    except LoadError as error:
        # Exit code 1 and not 2: the arguments are right, but the run could not begin.
        raise click.ClickException(str(error)) from error
    if (failure := find_failure(summary)) is not None:
        click.echo(f"hermes: {failure}", err=True)
    # After the failure was printed: an interrupted run may have failed too.
    if summary.interrupted:
        sys.exit(INTERRUPTED)
    if failure is not None:
        sys.exit(1)


def find_failure(summary: Summary) -> str | None:
    """Return one line that says why the run failed, or None."""
    refused = {code: count for code, count in summary.codes.items() if not code.startswith("2") and code not in _FULL}
    # The order of the checks is the order of blame: a refusal is a mistake in the request, the rest is the server's.
    if refused:
        codes = ", ".join(f"{count:,} with {code}" for code, count in refused.items())
        return f"{sum(refused.values()):,} of {summary.requests:,} requests were refused: {codes}{_mend(refused)}"
    if not summary.requests:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.errors.items())
        found = f" ({kinds})" if kinds else ""
        return f"no request was answered{found}: is a Hermes at this --url, and is --timeout long enough?"
    if not summary.events:
        return f"no event was taken: all {summary.requests:,} answers say that the server is full; see `hermes top`"
    # Also after answers: a script would take 0 for a success, although a server died during the run.
    if summary.errors:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in summary.errors.items())
        lost = (
            f"{summary.lost:,} request{'s' * (summary.lost != 1)} got no answer ({kinds}), and {summary.requests:,} did"
        )
        return f"{lost}: did the server stop, or lose connections, during the run?"
    return None


def _mend(refused: dict[str, int]) -> str:
    # Of several codes, the first one in this order decides.
    mends = {
        "400": "are these --type in its EVENT_TYPES?",
        "401": "give one of its API_KEYS with --header 'X-API-Key: ...'",
        "404": "is that the path of --url?",
        "413": "they are larger than its MAX_BODY_BYTES; see --events and --payload-bytes",
    }
    return next((f"; {words}" for code, words in mends.items() if code in refused), "")


def _options(
    headers: tuple[str, ...], types: tuple[str, ...], duration: float | None, total: int | None, **others: Any
) -> Options:
    # With --total alone the run must still end if the server stops answering.
    if duration is None:
        duration = DEFAULT_DURATION if total is None else DURATION_WITH_TOTAL
    return Options(
        headers=tuple(map(parse_header, headers)),
        types=types or DEFAULT_TYPES,
        duration=duration,
        total=total,
        **others,
    )


def _run(options: Options, *, as_json: bool, quiet: bool) -> Summary:
    # Imported here, because help and completion import this module too, and these imports take most of the time.
    import msgspec
    import trio

    from hermes.load.client import run_load
    from hermes.load.report import ProgressDisplay, summary_report

    run = partial(run_load, options, stop_on=_STOP_SIGNALS)
    if quiet:
        summary = trio.run(run)
    else:
        # On stderr: stdout has the summary alone, which a script may read.
        with ProgressDisplay(open_console(stderr=True), options) as display:
            summary = trio.run(partial(run, display.show, progress_interval=display.interval))
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(summary)))
    else:
        open_console().print(summary_report(summary, options))
    return summary
