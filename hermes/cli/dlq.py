"""``hermes dlq``: lists, shows, replays and removes the events that a sink refused for good.

The commands work on the store that DURABILITY names, whether the service runs or not. Output for programs goes to
stdout, questions and progress to stderr. Exit code 0: done; 1: not everything was done, for example because a named
letter does not exist, or the store does not work; 2: a setting or an option is wrong.

Invariants: no command touches a letter that came after the count; a letter is removed only if a filter, a number or
``--all`` named it, and the operator confirmed.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from functools import wraps
from typing import Any

import click
import msgspec
import trio

from hermes.base.quoting import printable
from hermes.cli.dlq_names import check_source, find_missing, tell_missing, tell_unconfigured
from hermes.cli.dlq_replay import replay_to_sinks, show_progress
from hermes.cli.dlq_store import LetterStore, find_store, store_of
from hermes.cli.dlq_view import Row, make_row, print_letter, print_rows
from hermes.console.manual import Manual, ManualGroup
from hermes.console.operator import configure, tells_the_operator
from hermes.console.values import WholeNumber, complete_parts, complete_sinks, complete_types
from hermes.dead_letters import DeadLetter, DeadLetters, Selection
from hermes.dead_letters.contract import MAX_NUMBER, PAGE_LETTERS, SINKS_PART
from hermes.dead_letters.notation import SINCE, choose, encode_line, parse_since, summarize
from hermes.dead_letters.replay import Replayed
from hermes.events.part import EventConfiguration
from hermes.parts import letter_view

_Decorator = Callable[[Callable[..., None]], Callable[..., None]]

_NONE = "no dead letter matches"
# The store numbers letters from 1 on.
_number = WholeNumber(1, MAX_NUMBER)


_ENVIRONMENT = {
    "DURABILITY": "Which store: disk (unless told) or postgres.",
    "HERMES_DATA_DIR": "The folder that the service runs with; ./hermes-data unless told.",
    "DB_DSN": "The database, with DURABILITY=postgres.",
}
_BROKEN = "The store does not work."
_MISTAKE = "A mistake in a setting or on the command line, no sink of that name, or there is no store."


@click.group(
    "dlq",
    cls=ManualGroup,
    manual=Manual(
        examples=(
            ("The refused events, with the reasons:", "hermes dlq list"),
            ("One event in full:", "hermes dlq show 17"),
            ("Once the database takes the events:", "hermes dlq replay --sink postgres"),
            ("Remove useless events:", "hermes dlq purge --reason 'invalid input syntax'"),
        ),
        exits={0: "Done.", 1: f"Not all of it was done. Or: {_BROKEN.lower()}", 2: _MISTAKE},
        environment=_ENVIRONMENT,
        see_also=("hermes top", "hermes log"),
    ),
)
def dlq_commands() -> None:
    """Look at the events that a sink refused; replay or purge them.

    The events are kept in HERMES_DATA_DIR, or with DURABILITY=postgres in DB_DSN. With DURABILITY=memory they live in
    the running service, which serves them over HTTP at /dead-letters of ADMIN_ADDR.
    """


# Parsed here and not in the store, because "1h" counts from the moment of the command.
def _since(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        return parse_since(text, time.time())
    except ValueError as error:
        raise click.BadParameter(f"{text!r}: expected {error}") from None


def _text(_context: click.Context, _parameter: click.Parameter, text: str | None) -> str | None:
    """Refuse an empty value: a script's mistake as a rule, and the filter would select more letters than intended."""
    # Text with bytes that are not UTF-8 arrives as surrogates; no stored text contains them.
    if text is not None and (not text or text != text.encode(errors="ignore").decode()):
        raise click.BadParameter(f"{text!r}: expected some text")
    return text


def _rate(_context: click.Context, _parameter: click.Parameter, rate: float | None) -> float | None:
    # Infinity would mean no bound, which leaving the option out means already.
    if rate is not None and not (math.isfinite(rate) and rate > 0):
        raise click.BadParameter(f"{rate}: expected a number of events a second, more than 0")
    return rate


def _selects(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that select letters, as one argument ``selection``."""

    # click takes the name and the page of a command from its function.
    @wraps(command)
    def run(**options: Any) -> None:
        filters = {name: options.pop(name) for name in ("part", "source", "sink", "type", "reason", "since")}
        # Only two of the commands take numbers; None selects letters of every number.
        numbers = options.pop("numbers", ()) or None
        try:
            selection = choose(**filters, numbers=numbers)
        except ValueError as error:
            raise click.UsageError(f"--sink: {error}") from None
        command(selection=selection, **options)

    options: tuple[_Decorator, ...] = (
        click.option("--since", callback=_since, help=f"Refused at this time or later: {SINCE}."),
        click.option("--reason", callback=_text, help="With this in the reason; letters in any case."),
        click.option("--type", callback=_text, shell_complete=complete_types, help="Of this event type."),
        click.option("--sink", callback=_text, shell_complete=complete_sinks, help="Refused by this sink."),
        click.option("--source", callback=_text, help="Of the source of this name in its part."),
        click.option("--part", callback=_text, shell_complete=complete_parts, help="Of this part of Hermes."),
    )
    # From the last to the first: click lists the option first that was applied last.
    decorated: Callable[..., None] = run
    for option in options:
        decorated = option(decorated)
    return decorated


_as_json: _Decorator = click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")
_dry_run: _Decorator = click.option("--dry-run", is_flag=True, help="Print the number of letters, and do nothing.")


@dlq_commands.command(
    "list",
    manual=Manual(
        examples=(
            ("The oldest first:", "hermes dlq list"),
            ("Refused by postgres in the last hour:", "hermes dlq list --sink postgres --since 1h"),
            ("The ids of all events of a type:", "hermes dlq list --type ad_clicked --json | jq -r .event.id"),
        ),
        exits={0: "Done, even if no letter matches.", 1: _BROKEN, 2: _MISTAKE},
        environment=_ENVIRONMENT,
        see_also=("hermes dlq show", "hermes dlq replay"),
    ),
)
@_selects
@click.option("--after", type=WholeNumber(0, MAX_NUMBER), default=0, help="With a number above this one.")
@click.option(
    "--limit", type=WholeNumber(1), help=f"At most so many; {PAGE_LETTERS} unless told, or all of them with --json."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the event as it was sent.")
@tells_the_operator
def list_letters(selection: Selection, after: int, limit: int | None, as_json: bool) -> None:
    """List dead letters, the oldest first.

    A letter is listed if it matches all options that select. --json prints every field in full.
    """
    where = find_store()
    if as_json:
        trio.run(_print_lines, where, selection, after, limit)
        return
    rows, more, total = trio.run(_gather_rows, where, selection, after, limit or PAGE_LETTERS)
    if not rows:
        # On stderr: stdout has nothing but rows.
        click.echo(f"{_NONE}.", err=True)
        return
    print_rows(rows)
    if more:
        click.echo(f"\n{len(rows)} of {total} dead letters; for the next: --after {rows[-1].number}", err=True)


@dlq_commands.command(
    "show",
    manual=Manual(
        examples=(
            ("The whole letter:", "hermes dlq show 17"),
            ("The payload, for another program:", "hermes dlq show 17 --payload | jq ."),
        ),
        exits={0: "Done.", 1: f"There is no such letter. Or: {_BROKEN.lower()}", 2: _MISTAKE},
        environment=_ENVIRONMENT,
        see_also=("hermes dlq list",),
    ),
)
@click.argument("number", type=_number)
@click.option("--payload", "payload_only", is_flag=True, help="Only the payload, its exact bytes.")
@_as_json
@tells_the_operator
def show_letter(number: int, payload_only: bool, as_json: bool) -> None:
    """Show all of one dead letter, with the payload that the client sent.

    NUMBER comes from `hermes dlq list`.
    """
    letter = trio.run(_get, find_store(), number)
    if letter is None:
        tell_missing([number])
        sys.exit(1)
    if payload_only:
        # Without a line feed: the output is the payload byte for byte.
        click.echo(letter.body, nl=False)
    elif as_json:
        click.echo(encode_line(letter, letter_view(letter.source.part)))
    else:
        print_letter(letter)


@dlq_commands.command(
    "replay",
    manual=Manual(
        examples=(
            ("How many letters would be sent?", "hermes dlq replay --sink postgres --dry-run"),
            ("Gently, beside a busy service:", "hermes dlq replay --sink postgres --rate 500"),
            ("Some by number:", "hermes dlq replay 17 18 21"),
        ),
        exits={
            0: "Every selected letter is in its sink.",
            1: f"Letters were refused again, or are left, or a NUMBER does not exist. Or: {_BROKEN.lower()}",
            2: _MISTAKE,
        },
        environment=_ENVIRONMENT | {"SINKS": "The sinks, with their SINK_<NAME>_ variables, as for the service."},
        see_also=("hermes dlq list", "hermes dlq purge"),
    ),
)
@click.argument("numbers", type=_number, nargs=-1, metavar="[NUMBER]...")
@_selects
@click.option("--rate", type=float, callback=_rate, help="At most so many events a second.")
@_dry_run
@_as_json
@tells_the_operator
def replay_letters(selection: Selection, rate: float | None, dry_run: bool, as_json: bool) -> None:
    """Send dead letters to their sinks again.

    NUMBER comes from `hermes dlq list`. A letter is removed when its sink has the event, and stays with the new reason
    if the sink refuses the event again. Events that a sink has already are stored once. Letters of other parts than
    `events` are left: the running service replays them, at ADMIN_ADDR.
    """
    # The sinks of the part `events`; the other parts need not be configured for a replay.
    configuration = configure(["events"])
    events: EventConfiguration = configuration.value_of("events")
    where = store_of(configuration.settings, configuration.value_of("dead_letters"), events.settings)
    # Before the replay, which removes letters: afterwards a delivered letter would count as missing.
    _, _, missing = trio.run(_count, where, selection)
    with show_progress() as show:
        outcomes = trio.run(replay_to_sinks, where, events.sinks, selection, rate, dry_run, show)
    if as_json:
        click.echo(msgspec.json.encode(summarize(outcomes) | {"missing": missing, "dry_run": dry_run}))
    # With missing numbers alone the line of `tell_missing` says enough.
    elif outcomes or not missing:
        _print_outcomes(outcomes, dry_run)
    tell_missing(missing)
    tell_unconfigured(outcomes)
    # A dry run leaves every letter, and that is its purpose, not a failure.
    if missing or (not dry_run and any(outcome.refused or outcome.left for outcome in outcomes)):
        sys.exit(1)


@dlq_commands.command(
    "purge",
    manual=Manual(
        examples=(
            ("One letter:", "hermes dlq purge 17"),
            ("How many letters would be removed?", "hermes dlq purge --reason 'invalid input syntax' --dry-run"),
            ("All letters, in a script:", "hermes dlq purge --all --yes"),
        ),
        exits={
            0: "Done.",
            1: f"The answer was no, or a NUMBER does not exist. Or: {_BROKEN.lower()}",
            2: _MISTAKE,
        },
        environment=_ENVIRONMENT,
        see_also=("hermes dlq list", "hermes dlq replay"),
    ),
)
@click.argument("numbers", type=_number, nargs=-1, metavar="[NUMBER]...")
@_selects
@click.option("--all", "everything", is_flag=True, help="All letters.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_dry_run
@_as_json
@tells_the_operator
def purge_letters(selection: Selection, everything: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove dead letters for good.

    Prints the number of letters, and asks. NUMBER comes from `hermes dlq list`. Letters that arrive meanwhile are kept.
    """
    # Exactly one of the two: neither would remove everything by accident, both would hide a filter.
    if everything == (selection != Selection()):
        raise click.UsageError("say which: a NUMBER, a filter such as --sink, or --all (and not both).")
    where = find_store()
    selection, count, missing = trio.run(_count, where, selection)
    tell_missing(missing)
    removed = 0
    if count and not dry_run:
        if not yes:
            # A script that forgot --yes must fail, and not wait for an answer.
            if not _is_terminal():
                raise click.UsageError("nothing is removed without a question; where nobody can answer, say --yes.")
            # On stderr, so that stdout stays the result for a program.
            click.confirm(f"Remove {count} dead letter{'s' * (count != 1)} for good?", abort=True, err=True)
        removed = trio.run(_remove, where, selection)
    if as_json:
        done = {"matched": count, "removed": removed, "missing": missing, "dry_run": dry_run}
        click.echo(msgspec.json.encode(done))
    elif count:
        click.echo(f"{count} would be removed." if dry_run else f"{removed} removed.")
    elif not missing:
        click.echo(f"{_NONE}.")
    # A script would take 0 for a success, although a number has no letter.
    if missing:
        sys.exit(1)


def _is_terminal() -> bool:
    return sys.stdin.isatty()


async def _pages(
    store: DeadLetters, selection: Selection, after: int, limit: int | None
) -> AsyncIterator[list[DeadLetter]]:
    """Yield the letters that match, at most ``limit``, page by page."""
    while limit != 0 and (
        # Page by page: the store may hold a hundred thousand letters.
        page := await store.page(selection, after=after, limit=min(limit or PAGE_LETTERS, PAGE_LETTERS))
    ):
        yield page
        after = page[-1].number
        limit = None if limit is None else limit - len(page)


async def _print_lines(where: LetterStore, selection: Selection, after: int, limit: int | None) -> None:
    async with where.open() as store:
        # An empty result may come from a misspelt sink.
        if not await store.page(selection, limit=1):
            await check_source(store, where.sinks, selection)
        async for page in _pages(store, selection, after, limit):
            click.echo(b"\n".join(encode_line(letter, letter_view(letter.source.part)) for letter in page))


async def _gather_rows(where: LetterStore, selection: Selection, after: int, limit: int) -> tuple[list[Row], bool, int]:
    """Return the rows of a table without payloads, whether there are more, and the number of all matching letters."""
    rows: list[Row] = []
    async with where.open() as store:
        async for page in _pages(store, selection, after, limit):
            after = page[-1].number
            rows += map(make_row, page)
        if not rows:
            await check_source(store, where.sinks, selection)
        # One letter more than shown is enough to know that the table is cut.
        more = bool(rows) and bool(await store.page(selection, after=after, limit=1))
        return rows, more, sum((await store.count(selection)).values())


async def _get(where: LetterStore, number: int) -> DeadLetter | None:
    async with where.open() as store:
        letters = await store.page(Selection(numbers=[number]), limit=1)
        return letters[0] if letters else None


async def _count(where: LetterStore, selection: Selection) -> tuple[Selection, int, list[int]]:
    """Return the selection without later letters, the number of its letters, and the numbers without a letter."""
    async with where.open() as store:
        # The question and the removal then speak of the same letters, even if the service adds some meanwhile.
        selection = replace(selection, up_to=await store.last())
        count = sum((await store.count(selection)).values())
        # A misspelt sink is the usual reason for an empty selection.
        if not count:
            await check_source(store, where.sinks, selection)
        return selection, count, await find_missing(store, selection)


async def _remove(where: LetterStore, selection: Selection) -> int:
    async with where.open() as store:
        return await store.remove(selection)


def _print_outcomes(outcomes: Sequence[Replayed], dry_run: bool) -> None:
    """Print the result of a replay, one line for each sink."""
    for outcome in outcomes:
        if dry_run:
            facts = f"{outcome.left} would be replayed" if not outcome.stopped else f"{outcome.left} cannot be replayed"
        else:
            facts = f"{outcome.delivered} delivered, {outcome.refused} refused again, {outcome.left} left"
        part, name = outcome.source
        who = name if part == SINKS_PART else f"{part} {name}"
        # The reason of a stop is the server's text, which must not command the terminal.
        click.echo(printable(f"{who}: {facts}{f': {outcome.stopped}' if outcome.stopped else ''}"))
    if not outcomes:
        click.echo(f"{_NONE}.")
