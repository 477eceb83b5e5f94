"""``hermes log``: inspects, checks and repairs the folder of the journal, or of another log of that kind.

`inspect` only reads, and may run beside the service; `check` and `repair` need the folder for themselves. Exit code 0:
no fault; 1: there are faults, or they were left; 2: a setting or an option is wrong, or the folder is in use.

Invariant: nothing changes before the command has printed the losses, and the operator confirmed.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import msgspec

from hermes.base.errors import ConfigError, LogDamaged
from hermes.console.manual import Manual, ManualGroup
from hermes.console.operator import tells_the_operator
from hermes.console.tables import Column, print_table
from hermes.console.values import WholeNumber, setting
from hermes.events.engine.journal import JournalState
from hermes.events.engine.journal_record import decode_head, lost_events
from hermes.events.engine.progress import ProgressState
from hermes.storage import EVENTS_LOG, LOG_NAME, log_folder
from hermes.store.log.contract import Loss, Record, Snapshot
from hermes.store.log.rows import named
from hermes.store.log.sqlite.folder import DATABASE, Watermark, lock_folder, read_watermark
from hermes.store.log.sqlite.overview import overview, records
from hermes.store.log.sqlite.repair import finish, is_unfinished, repair
from hermes.store.log.sqlite.survey import Lost, Survey, survey

# Records and faults in the output by default: one screen.
_SHOWN = 20


def _default_folder(name: str) -> Path:
    # Reads this setting alone: a log must be readable even if another setting keeps the service from starting.
    data_dir: Path = setting("hermes_data_dir")
    return log_folder(data_dir, name)


def _check_name(_context: click.Context, _option: click.Parameter, name: str) -> str:
    if not LOG_NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r} is not a name of a log: lower-case letters, digits and hyphens, 40 at most")
    return name


_ENVIRONMENT = {"HERMES_DATA_DIR": "The folder above the journal, without FOLDER; ./hermes-data unless told."}
_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False), required=False)
_name = click.option(
    "--name",
    default=EVENTS_LOG,
    metavar="NAME",
    callback=_check_name,
    help=f"The log of this name in HERMES_DATA_DIR; {EVENTS_LOG} unless told: the journal.",
)
_as_json = click.option("--json", "as_json", is_flag=True, help="Machine-readable, on stdout.")


@click.group(
    "log",
    cls=ManualGroup,
    manual=Manual(
        examples=(
            ("How far has each sink come?", "hermes log inspect"),
            ("Is every record whole? (The service must be stopped.)", "hermes log check"),
            ("Save what can be saved:", "hermes log repair"),
        ),
        exits={
            0: "All is well.",
            1: "There are faults, and they were not repaired.",
            2: "A mistake on the command line, there is no journal in that folder, or another Hermes uses the folder.",
        },
        environment=_ENVIRONMENT,
        files={"hermes-data/journal/": "The journal, with its lock."},
        see_also=("hermes dlq", "hermes serve"),
    ),
)
def log_commands() -> None:
    """Look at the journal on this machine's disk, check it, or repair it.

    The journal has the accepted events, with DURABILITY=disk. FOLDER is its folder; by default `journal` in
    HERMES_DATA_DIR.
    """


@log_commands.command(
    "inspect",
    manual=Manual(
        examples=(
            ("The contents, and the progress of each sink:", "hermes log inspect"),
            ("Some records, of another folder:", "hermes log inspect /var/lib/hermes/journal --from 1000 --limit 5"),
            ("For a script:", "hermes log inspect --json | jq .sinks"),
        ),
        exits={0: "Done.", 1: "There is no record of that index.", 2: "There is no journal in that folder."},
        environment=_ENVIRONMENT,
        see_also=("hermes log check", "hermes top"),
    ),
)
@_folder
@_name
@click.option("--from", "from_index", type=WholeNumber(0), help="List records, from this index on.")
@click.option("--limit", type=WholeNumber(1), help=f"List at most so many records; {_SHOWN} unless told.")
@_as_json
@tells_the_operator
def inspect_log(folder: Path | None, name: str, from_index: int | None, limit: int | None, as_json: bool) -> None:
    """Print the contents of the journal, or some of its records.

    The service may run meanwhile. FOLDER is `journal` in HERMES_DATA_DIR, unless another is named. With --json, records
    come as one JSON object a line.
    """
    folder = folder or _default_folder(name)
    # Without a range the command shows the overview.
    if from_index is None and limit is None:
        _print_overview(folder, as_json)
        return
    # A range that begins before the first record or behind the last is a mistake: an empty table, or one of other
    # records, would hide it from a script.
    if from_index is not None and not (found := overview(folder)).first <= from_index < found.next:
        extent = f"its records are {found.first} to {found.next - 1}" if found.next > found.first else "it has none"
        click.echo(f"hermes: there is no record {from_index} in {folder}; {extent}", err=True)
        sys.exit(1)
    rows = (_describe(record) for record in records(folder, from_index or 0, limit or _SHOWN))
    if as_json:
        for row in rows:
            click.echo(msgspec.json.encode(row))
        return
    fields = ("index", "bytes", "events", "first_event", "received_at")
    # The names of the JSON fields, as a person writes them.
    columns = [field.replace("_", " ") for field in fields]
    print_table(columns, [[str(row.get(field, "")) for field in fields] for row in rows])


@log_commands.command(
    "check",
    manual=Manual(
        examples=(
            ("After a crash of the machine, or when the service says so:", "hermes log check"),
            ("For a script:", "hermes log check --json | jq .lost"),
        ),
        exits={
            0: "No fault.",
            1: "There are faults; stdout has them.",
            2: "There is no journal in that folder, another Hermes uses it, or a repair of it was interrupted.",
        },
        environment=_ENVIRONMENT,
        see_also=("hermes log repair",),
    ),
)
@_folder
@_name
@_as_json
@tells_the_operator
def check_log(folder: Path | None, name: str, as_json: bool) -> None:
    """Read the whole journal and print every fault.

    Also prints the actions and the losses of a repair, and changes nothing. FOLDER is `journal` in HERMES_DATA_DIR,
    unless another is named. The service must be stopped.
    """
    folder = folder or _default_folder(name)
    with _locked(folder) as acknowledged:
        if is_unfinished(folder):
            # In the middle of a repair the folder holds two databases, and neither is the journal.
            raise ConfigError(f"{folder}: a repair was interrupted; run `hermes log repair` to finish it")
        found = survey(folder, acknowledged)
    if as_json:
        click.echo(msgspec.json.encode(_as_data(found)))
    else:
        _print_faults(found)
    # A script learns by the exit code whether a repair is needed.
    sys.exit(1 if found.faults else 0)


@log_commands.command(
    "repair",
    manual=Manual(
        examples=(
            ("See the losses, and decide:", "hermes log repair"),
            ("In a script:", "hermes log repair /var/lib/hermes/journal --yes"),
        ),
        exits={
            0: "The journal is whole: repaired, or there was nothing to do.",
            1: "The journal is unchanged, because the answer was no.",
            2: "There is no journal in that folder, or another Hermes uses it.",
        },
        environment=_ENVIRONMENT,
        files={"hermes-data/journal/": "The damaged database stays here too; delete that file when nothing is missed."},
        see_also=("hermes log check",),
    ),
)
@_folder
@_name
@click.option("--yes", is_flag=True, help="Do not ask.")
@tells_the_operator
def repair_log(folder: Path | None, name: str, yes: bool) -> None:
    """Write a damaged journal anew, with everything that can be saved.

    FOLDER is `journal` in HERMES_DATA_DIR, unless another is named. The damaged database is kept beside the new one.
    The service must be stopped. First prints the losses, and asks. Lost records keep their place, so that no sink takes
    other records for them.
    """
    folder = folder or _default_folder(name)
    with _locked(folder) as acknowledged:
        if is_unfinished(folder):
            click.echo(f"Finished the repair that was interrupted. The damaged database is {finish(folder)}.")
            return
        found = survey(folder, acknowledged)
        _print_faults(found)
        if not found.faults:
            return
        # On stderr, so that stdout stays the report. Asked under the lock: no service can begin meanwhile, and add
        # records that the report does not have.
        if not yes and not click.confirm("Repair it?", err=True):
            sys.exit(1)
        aside = repair(found)
    click.echo(f"Repaired. The damaged database is {aside}; delete it when nothing is missed.")


@contextmanager
def _locked(folder: Path) -> Iterator[Watermark]:
    # Before the lock: `lock_folder` would make the missing folder, and a check changes nothing.
    if not folder.is_dir():
        raise ConfigError(f"{folder}: there is no journal here: name its folder, or set HERMES_DATA_DIR")
    # The same lock as the service's: a running Hermes makes this fail.
    descriptor = lock_folder(folder)
    try:
        # The lock file holds the mark of the last acknowledged record.
        yield read_watermark(descriptor)
    finally:
        os.close(descriptor)


def _print_overview(folder: Path, as_json: bool) -> None:
    found = overview(folder)
    snapshot = found.snapshot
    sinks = _progress(snapshot)
    if as_json:
        # Without the state of the snapshot: its format is the writer's, and JSON would have it as Base64.
        data = msgspec.to_builtins(found) | {"snapshot": None, "sinks": sinks}
        if snapshot is not None:
            data["snapshot"] = {"index": snapshot.index, "bytes": len(snapshot.state)}
        click.echo(msgspec.json.encode(data))
        return
    count = found.next - found.first
    facts = [
        ("folder", str(folder)),
        ("records", f"{count}: {found.first} to {found.next - 1}" if count else "0"),
        ("next", str(found.next)),
        ("bytes", f"{found.bytes} in {found.rows} rows"),
        ("files", f"{DATABASE} {found.database_bytes}, its write-ahead file {found.wal_bytes}"),
        ("snapshot", f"at {snapshot.index}, {len(snapshot.state)} bytes" if snapshot else "none"),
    ]
    for sink, state in sinks.items():
        # Records after the cursor that the sink has already, out of order, do not count as missing.
        behind = found.next - state.cursor - sum(stop - start for start, stop, _ in state.done)
        facts.append((f"sink {sink}", _describe_progress(state.cursor, behind)))
    print_table((Column(""), Column("", least=20)), facts)


def _describe_progress(cursor: int, behind: int) -> str:
    """Return the progress of a sink: ``cursor`` is the first record that the sink lacks, ``behind`` their number."""
    if not behind:
        return "has every record"
    done = f"has every record before {cursor}" if cursor else "has no record yet"
    return f"{done}; {behind} record{'s' * (behind != 1)} to go"


def _progress(snapshot: Snapshot | None) -> dict[str, ProgressState]:
    """Return the progress of each sink, as the event journal saved it. Empty if the log is not an event journal."""
    if snapshot is None:
        return {}
    try:
        return msgspec.json.decode(snapshot.state, type=JournalState).sinks
    # The log of another part has a snapshot of its own format.
    except msgspec.DecodeError:
        return {}


def _describe(record: Record) -> dict[str, object]:
    """Return one line about a record; only its size if the record is not an event chunk."""
    row: dict[str, object] = {"index": record.index, "bytes": len(record.data)}
    try:
        head = decode_head(record.data, record.index)
    # A log of another kind has records of its own format.
    except LogDamaged:
        return row
    received_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(head.received_at))
    return row | {"events": head.count, "first_event": head.first, "received_at": received_at}


def _as_data(found: Survey) -> dict[str, object]:
    return {
        "first": found.first,
        "next": found.next,
        "faults": found.faults,
        "lost": [[lost.index, lost.end] for lost in found.lost],
        "lost_before": [[lost.index, lost.end] for lost in found.lost_before],
        "acknowledged": [found.acknowledged.first, found.acknowledged.next],
        "gone": _as_facts(found.gone) if found.gone.records else None,
    }


def _as_facts(lost: Loss) -> dict[str, object]:
    return {"first": lost.first, "records": lost.records, "events": lost_events(lost)}


def _print_faults(found: Survey) -> None:
    # A disk with bad sectors may give thousands of faults of one kind.
    for fault in found.faults[:_SHOWN]:
        click.echo(f"- {fault.what}\n  repair: {fault.repair}")
    if len(found.faults) > _SHOWN:
        click.echo(f"... and {len(found.faults) - _SHOWN} more faults; --json has them all")
    # Only the mark in the lock file tells of these records: the database without them is whole.
    if found.gone.records:
        click.echo(f"Acknowledged, and gone from the end: {_describe_loss(found.gone)}.")
    if found.lost_before:
        click.echo(f"Lost before: {_sum(found.lost_before)}.")
    if not found.faults:
        click.echo(f"{found.folder}: no fault; {_describe_extent(found)}; {_describe_mark(found.acknowledged)}.")
    elif found.lost:
        click.echo(f"A repair would lose {_sum(found.lost)}, and keep the rest.")
    else:
        click.echo("A repair would lose no record.")


def _describe_extent(found: Survey) -> str:
    return f"records {found.first} to {found.next - 1}" if found.next > found.first else "it holds no record"


def _describe_mark(mark: Watermark) -> str:
    """Return the extent of the acknowledged records, from the lock file."""
    if not mark.next:
        return "how far records were acknowledged is not known"
    return f"acknowledged up to record {mark.next - 1}"


def _describe_loss(lost: Loss) -> str:
    events = lost_events(lost)
    known = f"{events} event{'s' * (events != 1)}" if events is not None else "how many events is not known"
    return f"{named(lost.first, lost.first + lost.records)}, {known}"


def _sum(lost: Iterable[Lost]) -> str:
    # Used twice: for the sum and for the list.
    ranges = list(lost)
    count = sum(each.end - each.index for each in ranges)
    shown = ", ".join(map(str, ranges[:5])) + (", ..." if len(ranges) > 5 else "")
    return f"{count} record{'s' * (count != 1)}: {shown}"
