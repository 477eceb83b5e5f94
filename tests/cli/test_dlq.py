"""``hermes dlq``: what it lists, shows, replays and purges, and what it says where it cannot."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import trio
from click.testing import CliRunner, Result

from hermes import BatchRejected
from hermes.cli import dlq as module
from hermes.cli import dlq_store, main
from hermes.config import NoSettings
from hermes.configuration import Configuration
from hermes.dead_letters import DeadLetter, Source
from hermes.dead_letters.sqlite import SqliteDeadLetters, open_sqlite_dead_letters
from hermes.events.configured_sinks import ConfiguredSink
from hermes.events.letters import to_event
from hermes.events.part import EVENTS, with_sinks
from hermes.events.settings import EventSettings
from hermes.events.sink import DeliverySettings
from hermes.store import sqlite as wrapper
from hermes.testing import ScriptedSink, unavailable
from tests.dead_letters.kit import REJECTED_AT, everything, make_letter

Run = Callable[..., Result]


@pytest.fixture(autouse=True)
def no_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process that runs the tests has its own."""
    monkeypatch.setattr(dlq_store, "configure_logs", lambda _level, _style: None)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run ``hermes dlq`` on the store in ``tmp_path``, in an environment that has only what the test gives it."""

    def run(*arguments: str, stdin: str = "", **environ: str) -> Result:
        given = {"HERMES_DATA_DIR": str(tmp_path), "COLUMNS": "200"} | environ
        with patch.dict(os.environ, given, clear=True):
            return CliRunner().invoke(main, ["dlq", *arguments], input=stdin)

    return run


def opened(folder: Path) -> AbstractAsyncContextManager[SqliteDeadLetters]:
    return open_sqlite_dead_letters(folder / "dead-letters.db", 100_000)


@pytest.fixture
def keep(tmp_path: Path) -> Callable[..., None]:
    """Put letters into the store."""

    def keep(*letters: DeadLetter) -> None:
        async def add() -> None:
            async with opened(tmp_path) as store:
                await store.add(letters)

        trio.run(add)

    return keep


@pytest.fixture
def kept(tmp_path: Path) -> Callable[[], list[DeadLetter]]:
    """What is in the store."""

    async def read() -> list[DeadLetter]:
        async with opened(tmp_path) as store:
            return await everything(store)

    return lambda: trio.run(read)


Keep = Callable[..., None]
Kept = Callable[[], list[DeadLetter]]


def ids(letters: Sequence[DeadLetter]) -> list[str]:
    return [to_event(letter).id for letter in letters]


SOME = [
    make_letter(0, sink="postgres", reason="22003 overflow", rejected_at=REJECTED_AT),
    make_letter(1, sink="postgres", reason="23514 check", type="ad_clicked", rejected_at=REJECTED_AT + 60),
    make_letter(2, sink="sqlite", reason="no valid Unicode", rejected_at=REJECTED_AT + 120),
]

# list


def test_list_shows_a_letter_a_line(run: Run, keep: Keep) -> None:
    keep(*SOME)
    result = run("list")
    assert result.exit_code == 0
    assert [line.split() for line in result.stdout.splitlines()] == [
        ["number", "rejected", "at", "sink", "type", "event", "id", "reason"],
        ["1", "2023-11-14", "22:15:00Z", "postgres", "song_played", "event-0", "22003", "overflow"],
        ["2", "2023-11-14", "22:16:00Z", "postgres", "ad_clicked", "event-1", "23514", "check"],
        ["3", "2023-11-14", "22:17:00Z", "sqlite", "song_played", "event-2", "no", "valid", "Unicode"],
    ]
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [0, 1, 2]),
        (["--sink", "postgres"], [0, 1]),
        (["--type", "ad_clicked"], [1]),
        (["--reason", "UNICODE"], [2]),
        (["--since", str(REJECTED_AT + 60)], [1, 2]),
        (["--since", "2023-11-14T22:16:30"], [2]),
        (["--since", "1h"], []),
        (["--since", "1000000h"], [0, 1, 2]),
        (["--sink", "postgres", "--reason", "check"], [1]),
        (["--sink", "stdout"], []),
        (["--after", "1"], [1, 2]),
        (["--limit", "2"], [0, 1]),
        (["--after", "1", "--limit", "1"], [1]),
    ],
    ids=repr,
)
def test_options_select(run: Run, keep: Keep, options: list[str], expected: list[int]) -> None:
    keep(*SOME)
    lines = run("list", "--json", *options).stdout.splitlines()
    assert [json.loads(line)["event"]["id"] for line in lines] == [f"event-{n}" for n in expected]
    table = run("list", *options)
    assert [f"event-{n}" for n in range(3) if f"event-{n}" in table.stdout] == [f"event-{n}" for n in expected]
    assert ("no dead letter matches." in table.stderr) == (not expected)


def test_a_table_is_bounded_and_says_how_to_go_on(run: Run, keep: Keep) -> None:
    keep(*map(make_letter, range(150)))
    result = run("list")
    assert len(result.stdout.splitlines()) == 101
    assert "100 of 150 dead letters; for the next: --after 100" in result.stderr
    rest = run("list", "--after", "100")
    assert len(rest.stdout.splitlines()) == 51
    assert rest.stderr == ""


def test_lines_of_json_are_all_of_them_and_hold_the_payload_as_it_is(run: Run, keep: Keep) -> None:
    keep(*(make_letter(n, payload=b'{ "n": 1.50 }') for n in range(250)))
    lines = run("list", "--json").stdout_bytes.splitlines()
    assert [json.loads(line)["number"] for line in lines] == list(range(1, 251))
    assert all(b'"payload":{ "n": 1.50 }' in line for line in lines)


def test_what_a_terminal_might_obey_is_escaped(run: Run, keep: Keep) -> None:
    keep(make_letter(0, reason="\x1b[2J[red]boo[/]\n", user_id="\x9b", type="\x07"))
    for arguments in (["list"], ["show", "1"]):
        output = run(*arguments).stdout
        assert not {"\x1b", "\x9b", "\x07"} & set(output)
        assert "\\x1b[2J[red]boo[/]\\n" in output


# letters of other parts

TOY = DeadLetter(Source("toys", "balls"), {"id": "b-1", "size": 3}, b"red\x1b[2J\nround", "burst", 2, REJECTED_AT, 9.0)


def test_letters_of_any_part_are_listed_and_one_part_has_a_column_for_each_fact(run: Run, keep: Keep) -> None:
    keep(SOME[0], TOY)
    first, second, third = (" ".join(line.split()) for line in run("list").stdout.splitlines())
    assert first == "number rejected at part source facts reason"
    assert second.endswith("events postgres type song_played, event id event-0 22003 overflow")
    assert third.endswith("toys balls id b-1, size 3 burst")
    for options in (["--part", "toys"], ["--source", "balls"]):
        assert [line.split() for line in run("list", *options).stdout.splitlines()] == [
            ["number", "rejected", "at", "part", "source", "id", "size", "reason"],
            ["2", "2023-11-14", "22:15:00Z", "toys", "balls", "b-1", "3", "burst"],
        ]
    assert "toys" not in run("list", "--part", "events").stdout
    line = json.loads(run("list", "--part", "toys", "--json").stdout)
    assert (line["part"], line["source"], line["facts"]) == ("toys", "balls", {"id": "b-1", "size": 3})


def test_a_letter_of_another_part_is_shown_with_its_facts_and_a_body_that_is_safe(run: Run, keep: Keep) -> None:
    keep(TOY, replace(TOY, body=b"\xff"))
    shown = run("show", "1").stdout
    assert ["part", "toys"] in [line.split() for line in shown.splitlines()]
    assert ["size", "3"] in [line.split() for line in shown.splitlines()]
    assert shown.endswith("body         13 bytes\n\nred\\x1b[2J\nround\n")
    assert run("show", "1", "--payload").stdout_bytes == TOY.body
    assert run("show", "2").stdout.endswith("It is not text; --payload writes its bytes.\n")


def test_letters_of_another_part_are_left_by_a_replay_and_purged_by_their_part(
    run: Run, keep: Keep, kept: Kept
) -> None:
    keep(TOY)
    result = run("replay")
    assert result.exit_code == 1
    assert result.stdout.startswith(
        "toys balls: 0 delivered, 0 refused again, 1 left: the part toys replays no letters"
    )
    assert result.stderr.endswith("by `POST /dead-letters/replay?part=toys` at ADMIN_ADDR\n")
    assert run("purge", "--part", "toys", "--yes").stdout == "1 removed.\n"
    assert not kept()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--part", "event"], "dlq list: --part: there is no part 'event': did you mean events?"),
        (["--source", "nowhere"], "--source: there is no source 'nowhere': "),
        (["--sink", "postgres", "--part", "toys"], "--sink: a sink is a source of the part events"),
        (["--sink", "postgres", "--source", "x"], "--sink: a sink is a source of the part events"),
    ],
    ids=repr,
)
def test_a_part_or_a_source_that_does_not_exist_is_a_mistake(
    run: Run, keep: Keep, options: list[str], words: str
) -> None:
    keep(SOME[0])
    result = run("list", *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


# show


def test_show_has_everything(run: Run, keep: Keep) -> None:
    payload = '{ "é": 1,\n\t"n": 1e400 }'.encode()
    keep(make_letter(7, reason="22003 overflow", attempts=3, payload=payload))
    result = run("show", "1")
    assert result.exit_code == 0
    head, _, body = result.stdout_bytes.partition(b"\n\n")
    assert {line[:12].strip(): line[13:] for line in head.decode().splitlines()} == {
        "number": "1",
        "sink": "fake",
        "reason": "22003 overflow",
        "attempts": "3",
        "rejected at": "2023-11-14 22:15:00Z",
        "received at": "2023-11-14 22:13:21Z",
        "event id": "event-7",
        "user id": "user-1",
        "type": "song_played",
        "timestamp": "1700000000 (2023-11-14 22:13:20Z)",
        "payload": f"{len(payload)} bytes",
    }
    assert body == payload + b"\n"


def test_show_payload_has_the_exact_bytes_and_nothing_else(run: Run, keep: Keep) -> None:
    payload = '\t{ "é":\r\n1 }\n'.encode()
    keep(make_letter(0, payload=payload))
    assert run("show", "1", "--payload").stdout_bytes == payload


def test_show_as_json_is_a_line(run: Run, keep: Keep) -> None:
    keep(make_letter(0, payload=b'{\n"a":1}'))
    result = run("show", "1", "--json")
    assert result.stdout.count("\n") == 1
    assert json.loads(result.stdout)["event"]["payload"] == {"a": 1}


# Names that do not exist


@pytest.mark.parametrize(
    "command", [["show"], ["replay"], ["replay", "--dry-run"], ["purge", "--yes"], ["purge", "--dry-run"]], ids=" ".join
)
def test_a_number_that_no_letter_has_is_said_and_exit_code_1(run: Run, keep: Keep, command: list[str]) -> None:
    keep(make_letter(0, sink="null"))
    result = run(*command, "99", SINKS="null")
    assert result.exit_code == 1
    assert result.stderr.startswith("hermes: there is no dead letter 99; `hermes dlq list` shows")
    assert result.stdout == ""


@pytest.mark.parametrize(("command", "done"), [("replay", "delivered"), ("purge --yes", "removed")])
def test_the_letters_that_exist_are_still_acted_on(run: Run, keep: Keep, kept: Kept, command: str, done: str) -> None:
    keep(*(make_letter(n, sink="null") for n in range(2)))
    result = run(*command.split(), "1", "98", "99", "--json", SINKS="null")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert (found[done], found["missing"]) == (1, [98, 99])
    assert ids(kept()) == ["event-1"]


@pytest.mark.parametrize(
    "command", [["list"], ["list", "--json"], ["replay"], ["purge", "--yes"], ["purge", "--dry-run"]], ids=" ".join
)
def test_a_sink_that_does_not_exist_is_a_mistake_and_one_without_letters_is_none(
    run: Run, keep: Keep, command: list[str]
) -> None:
    keep(make_letter(0, sink="gone"))
    for typed, words in (("postgers", "did you mean postgres?"), ("x9", "there are ")):
        result = run(*command, "--sink", typed, SINKS="null")
        assert (result.exit_code, result.stdout) == (2, "")
        assert f"--sink: there is no sink '{typed}': {words}" in result.stderr
    assert run(*command, "--sink", "stdout", SINKS="null").exit_code == 0
    assert run("list", "--sink", "gone", "--type", "none_of_these").exit_code == 0


# replay


@pytest.fixture
def sinks(monkeypatch: pytest.MonkeyPatch) -> dict[str, ScriptedSink]:
    """The configured sinks; a test may add to them and script them."""
    from hermes.console.operator import configure

    scripted = {"postgres": ScriptedSink(), "sqlite": ScriptedSink()}

    def configure_scripted(parts: Sequence[str]) -> Configuration:
        sinks = [
            ConfiguredSink(name, sink.plugin(), NoSettings(), DeliverySettings(timeout=0.05))
            for name, sink in scripted.items()
        ]
        assert parts == ["events"]
        found = configure()
        chosen = with_sinks(EventSettings(), sinks)
        own = [replace(each, settings=chosen) if each.part is EVENTS else each for each in found.parts]
        return replace(found, parts=tuple(own))

    monkeypatch.setattr(module, "configure", configure_scripted)
    return scripted


Sinks = dict[str, ScriptedSink]


def test_replay_delivers_and_says_what_became_of_each_sinks_letters(
    run: Run, keep: Keep, kept: Kept, sinks: Sinks
) -> None:
    keep(*SOME)
    result = run("replay")
    assert result.stdout == (
        "postgres: 2 delivered, 0 refused again, 0 left\nsqlite: 1 delivered, 0 refused again, 0 left\n"
    )
    assert (result.exit_code, result.stderr, kept()) == (0, "", [])
    assert [event.id for event in sinks["postgres"].stored] == ["event-0", "event-1"]
    assert [event.id for event in sinks["sqlite"].stored] == ["event-2"]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["--sink", "postgres"], [2]),
        (["--type", "ad_clicked"], [0, 2]),
        (["--reason", "overflow"], [1, 2]),
        (["--since", "2023-11-14T22:16:00Z"], [0]),
        (["3", "1"], [1]),
        (["1", "2", "--reason", "check"], [0, 2]),
    ],
    ids=repr,
)
def test_replay_and_purge_take_only_what_is_selected(
    run: Run, keep: Keep, kept: Kept, sinks: Sinks, arguments: list[str], left: list[int]
) -> None:
    for command in (["replay"], ["purge", "--yes"]):
        keep(*SOME)
        numbers = {n + 1: letter.number for n, letter in enumerate(kept())}
        given = [str(numbers[int(each)]) if each.isdigit() else each for each in arguments]
        assert run(*command, *given).exit_code == 0
        assert ids(kept()) == [f"event-{n}" for n in left]
        run("purge", "--all", "--yes")


def test_only_a_sink_that_has_letters_is_opened_and_it_is_closed_again(run: Run, keep: Keep, sinks: Sinks) -> None:
    keep(SOME[2])
    run("replay")
    assert [(sink.opened, sink.closed) for sink in sinks.values()] == [(0, 0), (1, 1)]


def test_what_is_refused_again_is_exit_code_1(run: Run, keep: Keep, kept: Kept, sinks: Sinks) -> None:
    keep(*SOME[:2])
    sinks["postgres"].script.append(BatchRejected({0: "still no"}))
    result = run("replay")
    assert result.exit_code == 1
    assert result.stdout == "postgres: 1 delivered, 1 refused again, 0 left\n"
    (letter,) = kept()
    assert (to_event(letter).id, letter.reason, letter.attempts) == ("event-0", "still no", 2)


def test_a_sink_that_is_unavailable_is_exit_code_1_and_its_words(
    run: Run, keep: Keep, kept: Kept, sinks: Sinks
) -> None:
    keep(*SOME)
    sinks["postgres"].script.extend(unavailable())
    result = run("replay", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "delivered": 1,
        "refused": 0,
        "left": 2,
        "sinks": [
            {
                "part": "events",
                "sink": "postgres",
                "delivered": 0,
                "refused": 0,
                "left": 2,
                "stopped": "refusal 1 of 1",
            },
            {"part": "events", "sink": "sqlite", "delivered": 1, "refused": 0, "left": 0, "stopped": None},
        ],
        "missing": [],
        "dry_run": False,
    }
    assert ids(kept()) == ["event-0", "event-1"]


def test_a_write_is_bounded_by_the_sinks_timeout(run: Run, keep: Keep, kept: Kept, sinks: Sinks) -> None:
    keep(SOME[0])
    sinks["postgres"].stall()
    result = run("replay")
    assert result.exit_code == 1
    assert result.stdout == ("postgres: 0 delivered, 0 refused again, 1 left: no answer within SINK_POSTGRES_TIMEOUT\n")
    assert len(kept()) == 1


def test_letters_of_a_sink_that_is_not_configured_are_left(run: Run, keep: Keep, kept: Kept, sinks: Sinks) -> None:
    keep(make_letter(0, sink="gone"))
    result = run("replay")
    assert (result.exit_code, len(kept())) == (1, 1)
    assert result.stdout == "gone: 0 delivered, 0 refused again, 1 left: no sink of this name is configured\n"
    for options in ([], ["--dry-run"], ["--json"]):
        assert run("replay", *options).stderr == (
            "hermes: the settings of this command have no sink gone: set SINKS and its SINK_<NAME>_ variables, or "
            "HERMES_CONFIG, as the service has them\n"
        )


def test_a_dry_run_of_replay_counts(run: Run, keep: Keep, kept: Kept, sinks: Sinks) -> None:
    keep(*SOME, make_letter(3, sink="gone"))
    result = run("replay", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout == (
        "gone: 1 cannot be replayed: no sink of this name is configured\n"
        "postgres: 2 would be replayed\nsqlite: 1 would be replayed\n"
    )
    assert json.loads(run("replay", "--dry-run", "--json").stdout)["left"] == 4
    assert len(kept()) == 4
    assert not any(sink.writes for sink in sinks.values())


def test_a_rate_is_kept(run: Run, keep: Keep, sinks: Sinks) -> None:
    keep(*(make_letter(n, sink="sqlite") for n in range(4)))
    assert run("replay", "--rate", "20").exit_code == 0
    first, last = sinks["sqlite"].writes
    assert [len(write.events) for write in (first, last)] == [2, 2]
    # The pause is counted from before the first write, whose own beginning may come some milliseconds later.
    assert last.began_at - first.began_at >= 0.08


@pytest.mark.parametrize("rate", ["0", "-1", "nan", "inf", "fast"])
def test_a_rate_that_is_none_is_refused(run: Run, keep: Keep, rate: str) -> None:
    keep(*SOME)
    result = run("replay", "--rate", rate)
    assert result.exit_code == 2
    assert "--rate" in result.stderr


# purge


def test_purge_wants_to_know_which(run: Run, keep: Keep, kept: Kept) -> None:
    keep(*SOME)
    for arguments in ([], ["--yes"], ["--all", "--sink", "postgres", "--yes"], ["--all", "1", "--yes"]):
        result = run("purge", *arguments)
        assert result.exit_code == 2
        assert "say which" in result.stderr
    assert len(kept()) == 3


def test_purge_forgets_for_good(run: Run, keep: Keep, kept: Kept) -> None:
    keep(*SOME)
    result = run("purge", "--sink", "postgres", "--yes")
    assert (result.exit_code, result.stdout) == (0, "2 removed.\n")
    assert ids(kept()) == ["event-2"]
    done = {"matched": 1, "removed": 1, "missing": [], "dry_run": False}
    assert json.loads(run("purge", "--all", "--yes", "--json").stdout) == done
    assert run("purge", "--all", "--yes").stdout == "no dead letter matches.\n"


def test_a_dry_run_of_purge_counts_and_needs_no_yes(run: Run, keep: Keep, kept: Kept) -> None:
    keep(*SOME)
    assert run("purge", "--all", "--dry-run").stdout == "3 would be removed.\n"
    assert json.loads(run("purge", "--all", "--dry-run", "--json").stdout)["removed"] == 0
    assert len(kept()) == 3


def test_without_a_terminal_purge_needs_yes(run: Run, keep: Keep, kept: Kept) -> None:
    keep(*SOME)
    result = run("purge", "--all", stdin="y\n")
    assert result.exit_code == 2
    assert "--yes" in result.stderr
    assert len(kept()) == 3


@pytest.mark.parametrize(("answer", "left", "code"), [("y", 0, 0), ("n", 3, 1), ("", 3, 1)])
def test_on_a_terminal_purge_asks(
    run: Run, keep: Keep, kept: Kept, monkeypatch: pytest.MonkeyPatch, answer: str, left: int, code: int
) -> None:
    keep(*SOME)
    monkeypatch.setattr(module, "_is_terminal", lambda: True)
    result = run("purge", "--all", stdin=f"{answer}\n")
    assert result.exit_code == code
    assert "Remove 3 dead letters for good? [y/N]" in result.stderr
    assert len(kept()) == left


# What the operator can mend


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["replay"], ["purge", "--all"]], ids=" ".join)
def test_with_durability_memory_one_line_says_where_the_letters_are(run: Run, command: list[str]) -> None:
    result = run(*command, DURABILITY="memory")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == (
        "hermes: DURABILITY='memory': the dead letters live in the running service, which has them over HTTP at "
        "/dead-letters of ADMIN_ADDR\n"
    )


@pytest.mark.parametrize("command", [["list"], ["show", "1"], ["replay"], ["purge", "--all"]], ids=" ".join)
def test_a_folder_without_a_store_is_said_and_nothing_is_made_in_it(
    run: Run, tmp_path: Path, command: list[str]
) -> None:
    result = run(*command, HERMES_DATA_DIR=str(tmp_path / "typo"))
    assert result.exit_code == 2
    assert result.stderr.startswith(f"hermes: HERMES_DATA_DIR='{tmp_path / 'typo'}': no dead-letters.db is there")
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "typo").exists()


def test_a_file_that_is_no_store_is_one_line(run: Run, tmp_path: Path) -> None:
    (tmp_path / "dead-letters.db").write_text("dear diary, " * 1000)
    result = run("list")
    assert result.exit_code == 2
    assert "file is not a database" in result.stderr
    assert result.stderr.count("\n") == 1


def test_a_store_that_does_not_work_is_one_line_and_exit_code_1(
    run: Run, keep: Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep(*SOME)
    monkeypatch.setattr(wrapper, "LOCK_TIMEOUT", 0.05)
    other = sqlite3.connect(tmp_path / "dead-letters.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    result = run("purge", "--all", "--yes")
    other.close()
    assert result.exit_code == 1
    assert result.stderr.startswith("hermes: the dead letters in ")
    assert result.stderr.endswith("database is locked\n")
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["list", "--since", "yesterday"],
        ["list", "--limit", "0"],
        ["list", "--after", "-1"],
        ["show"],
        ["show", "0"],
        ["show", str(2**63)],
        ["replay", "x"],
        ["purge", "--all", "1" * 30],
        ["purge", "--yes", "--sink", ""],
        ["purge", "--yes", "--type", ""],
        ["purge", "--yes", "--reason", ""],
        ["list", "--reason", "\udcff"],
    ],
    ids=repr,
)
def test_a_wrong_option_is_exit_code_2(run: Run, keep: Keep, arguments: list[str]) -> None:
    keep(*SOME)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("hermes: dlq ")
    assert result.stderr.count("\n") == 1


def test_a_moment_that_is_none_is_said_with_what_is_taken(run: Run) -> None:
    assert "'yesterday': expected a duration back from now such as 2h" in run("list", "--since", "yesterday").stderr


@pytest.mark.parametrize("command", ["list", "show", "replay", "purge"])
def test_every_command_explains_itself(run: Run, command: str) -> None:
    assert f"\n  {command} " in run("--help").output
    assert run(command, "--help").exit_code == 0
