"""``hermes tap``: live events in the terminal, while they go by.

Invariant: nothing that a client of the service has sent reaches the terminal raw; what a terminal might obey is shown
escaped. Events go to stdout, a line each; everything else to stderr.
"""

from __future__ import annotations

from contextlib import suppress

import click
import msgspec

from hermes.cli.client import CLIENT_ENVIRONMENT, CLIENT_EXITS, AdminClient, Unreachable, with_client
from hermes.cli.manual import Manual, ManualCommand
from hermes.cli.operator import tells_the_operator
from hermes.cli.values import WholeNumber, complete_types
from hermes.dead_letters.notation import format_time
from hermes.event import Event
from hermes.words import printable


class _Notice(msgspec.Struct, frozen=True):
    """A line that is no event says how many were skipped."""

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
    "--sample", type=float, default=1.0, callback=_sample, metavar="PART", help="Only this part of them, such as 0.01."
)
@click.option("--limit", type=WholeNumber(1), metavar="N", help="End after so many events.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, as the event was sent.")
@tells_the_operator
@with_client
def tap(
    client: AdminClient, types: tuple[str, ...], user: str | None, sample: float, limit: int | None, as_json: bool
) -> None:
    """Follow live events, from a running Hermes, until Ctrl-C.

    A sample is chosen by the events' ids: it has the same events wherever it is taken, and a larger one has all of a
    smaller one. Events that come faster than they can be shown are skipped, and counted on stderr; the service never
    waits for a tap.
    """
    parameters = {"type": ",".join(types), "user": user or "", "sample": f"{sample:.17g}"}
    with suppress(KeyboardInterrupt):
        _follow(client, {name: text for name, text in parameters.items() if text}, limit, as_json)


def _follow(client: AdminClient, parameters: dict[str, str], limit: int | None, as_json: bool) -> None:
    shown = 0
    for line in client.tap(parameters):
        if not line.strip():
            continue  # the service says that it is there
        event = _read(line)
        if isinstance(event, int):
            click.echo(f"hermes: {event} events were too many to show; see --type, --user and --sample", err=True)
            continue
        click.echo(escape_json(line) if as_json else describe(event))
        shown += 1
        if shown == limit:
            return
    click.echo("hermes: the service has been stopped", err=True)


def _read(line: str) -> Event | int:
    """The event of a line, or how many were skipped. Raises `Unreachable`."""
    try:
        skipped = msgspec.json.decode(line, type=_Notice).skipped
        return skipped or msgspec.json.decode(line, type=Event)
    except msgspec.DecodeError as error:
        raise Unreachable(f"that is no tap of a Hermes: {error}") from None


def describe(event: Event) -> str:
    """An event in a line for people: its time, type, user and id, and its payload as it was sent."""
    facts = (format_time(event.timestamp), event.type, event.user_id, event.id)
    return "  ".join([*map(printable, facts), escape_json(bytes(event.payload).decode())])


def escape_json(text: str) -> str:
    """JSON of the same value without any character that a terminal might obey.

    Such a character stands in a string, where an escape means the same, or is white space between tokens.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else _escape(each) for each in text)


def _escape(character: str) -> str:
    if character in "\t\r\n":
        return " "
    units = character.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))
