"""``hermes tap``: prints live events in the terminal.

Events go to stdout, a line each; on a terminal an event takes as many lines as its width requires. Everything else goes
to stderr.

Invariant: no text of a client reaches the terminal raw; characters that a terminal might obey are escaped.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress

import click
import msgspec
from rich.cells import cell_len

from hermes.base.quoting import printable
from hermes.console.client import CLIENT_ENVIRONMENT, CLIENT_EXITS, AdminClient, Unreachable, with_client
from hermes.console.manual import Manual, ManualCommand
from hermes.console.operator import tells_the_operator
from hermes.console.tables import wrap
from hermes.console.values import WholeNumber, complete_types
from hermes.dead_letters.notation import format_time
from hermes.events.event import Event
from hermes.net.http.rejected_feed import Rejected

# Marks the further lines of an event.
_INDENT = "    "


class _Notice(msgspec.Struct, frozen=True):
    """A line that is not an event: the number of skipped events."""

    skipped: int = 0


def _sample(_context: click.Context, _parameter: click.Parameter, sample: float) -> float:
    if not 0 < sample <= 1:
        raise click.BadParameter(f"{sample}: expected a part of the events, above 0 and at most 1")
    return sample


@click.command(
    "tap",
    cls=ManualCommand,
    manual=Manual(
        examples=(
            ("Ten events of a type:", "hermes tap --type song_played --limit 10"),
            ("What one user does:", "hermes tap --user user-123 --json | jq .payload"),
            ("One in a thousand, of a busy Hermes:", "hermes tap --sample 0.001 --url http://10.0.0.7:8081"),
            ("Rejected events, with the reasons:", "hermes tap --rejected"),
        ),
        exits=CLIENT_EXITS,
        environment=CLIENT_ENVIRONMENT,
        see_also=("hermes top", "hermes dlq list"),
    ),
)
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    shell_complete=complete_types,
    help="Only events of this type; may be repeated.",
)
@click.option("--user", metavar="USER", help="Only events of this user.")
@click.option(
    "--sample",
    type=float,
    default=1.0,
    callback=_sample,
    metavar="PART",
    help="Only this part of the events, such as 0.01.",
)
@click.option(
    "--rejected",
    is_flag=True,
    help="Rejected events instead, with the reason: the latest ones, then new ones.",
)
@click.option("--limit", type=WholeNumber(1), metavar="N", help="End after so many events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the event was sent.")
@tells_the_operator
@with_client
def tap(
    client: AdminClient,
    types: tuple[str, ...],
    user: str | None,
    sample: float,
    rejected: bool,
    limit: int | None,
    as_json: bool,
) -> None:
    """Follow live events, from a running Hermes, until Ctrl-C.

    A sample is chosen by the events' ids: it has the same events on every machine, and a larger sample contains a
    smaller one. Events that come faster than they can be shown are skipped, and counted on stderr; the service never
    waits for a tap.
    """
    # Rejected events may lack a type and a user, so the filters cannot apply.
    if rejected and (types or user or sample < 1):
        raise click.UsageError("--rejected shows every rejected event: leave out --type, --user and --sample")
    # 17 digits identify a float; with fewer the service would take another sample.
    parameters = {"type": ",".join(types), "user": user or "", "sample": f"{sample:.17g}"}
    lines = client.rejected() if rejected else client.tap({name: text for name, text in parameters.items() if text})
    # Ctrl-C is the usual end of a tap, not a failure.
    with suppress(KeyboardInterrupt):
        _follow(lines, Rejected if rejected else Event, limit, as_json)


def _follow(lines: Iterable[str], kind: type[Event | Rejected], limit: int | None, as_json: bool) -> None:
    shown = 0
    # Into a file or a pipe each event is one line, for grep.
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for line in lines:
        if not line.strip():
            # An empty line shows that the connection lives.
            continue
        found = _read(line, kind)
        if isinstance(found, int):
            # With --rejected the three options are refused, so they are no advice.
            mend = "" if kind is Rejected else "; see --type, --user and --sample"
            click.echo(f"hermes: {found} events were too many to show{mend}", err=True)
            continue
        click.echo(escape_json(line) if as_json else fill(describe(found), width))
        shown += 1
        if shown == limit:
            return
    # The stream of a running service has no end, and a broken connection raises `Lost`.
    click.echo("hermes: the service has been stopped", err=True)


def _read(line: str, kind: type[Event | Rejected]) -> Event | Rejected | int:
    """Return the event of a line, or the number of skipped events. Raises `Unreachable`."""
    try:
        # An event has no field `skipped`, so a line with one is a notice.
        skipped = msgspec.json.decode(line, type=_Notice).skipped
        return skipped or msgspec.json.decode(line, type=kind)
    except msgspec.DecodeError as error:
        raise Unreachable(f"that is not the tap of a Hermes: {error}") from None


def describe(found: Event | Rejected) -> list[str]:
    """Return the shown parts of an event: its time, type, user and id, and its payload as it was sent.

    Of a rejected event: the time and route of its request, the status of the answer, its place in the request, and the
    reason.
    """
    if isinstance(found, Event):
        facts = [format_time(found.timestamp), found.type, found.user_id, found.id]
        # The payload stays JSON: `printable` would write \x1b for an escape character, and JSON has no such escape.
        return [*map(printable, facts), escape_json(bytes(found.payload).decode())]
    # The same number as in the answer to the client and in the log.
    place = "whole request" if found.index is None else f"index {found.index} of its request"
    origin = f"{found.client}, request {found.request_id}" if found.client else f"request {found.request_id}"
    facts = [format_time(found.at), found.route, str(found.status), place, found.reason, f"({origin})"]
    return [*map(printable, facts)]


def fill(parts: Sequence[str], width: int | None) -> str:
    """Return the parts on one line, or for a terminal on as many lines as needed, broken between parts if possible.

    A part that is longer than a line is broken between its words, so that the terminal itself never breaks a line.

    >>> print(fill(["song_played", "user-1", "a long payload"], width=24))
    song_played  user-1
        a long payload
    """
    whole = "  ".join(parts)
    if width is None or cell_len(whole) <= width:
        return whole
    lines = [""]
    for part in parts:
        longer = f"{lines[-1]}  {part}" if lines[-1] else part
        if cell_len(longer) <= width:
            lines[-1] = longer
            continue
        lines += [_INDENT + each for each in wrap(part, max(1, width - len(_INDENT)))]
    # The first line stays empty if even the first part is longer than a line.
    return "\n".join(filter(None, lines))


def escape_json(text: str) -> str:
    r"""Return JSON of the same value without any character that a terminal might obey.

    >>> escape_json('{"title":"bell\a"}')
    '{"title":"bell\\u0007"}'
    """
    # The usual case: no copy.
    if text.isprintable():
        return text
    # Such a character stands within a string, where an escape means the same, or is white space between tokens.
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    if character in "\t\r\n":
        return " "
    # JSON escapes are UTF-16 code units: a character beyond U+FFFF needs two.
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
