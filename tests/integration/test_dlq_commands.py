"""``hermes dlq`` as a process beside a running service, with real sinks: nothing lost, and nothing stored twice."""

from __future__ import annotations

import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trio
from psycopg import sql

from hermes.dead_letters import DeadLetter
from hermes.dead_letters.postgres import open_postgres_dead_letters
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from tests.dead_letters.kit import make_letter
from tests.integration.program import LOOK_SECONDS, Program, events

PATIENCE = 30.0
TOO_LARGE = '{"n": 1e400000}'  # JSON, but no number that jsonb takes

# Runs `hermes dlq …`, and dies the moment a letter is about to be removed.
DIES_BEFORE_REMOVING = """
import os, sys
from hermes.dead_letters.sqlite import SqliteDeadLetters
async def remove(self, selection):
    os._exit(9)
SqliteDeadLetters.remove = remove
from hermes.cli import main
main(["dlq", *sys.argv[1:]])
"""


def execute(dsn: str, statement: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        cursor = connection.execute(sql.SQL(statement))
        return cursor.fetchall() if cursor.description else []


def environment(folder: Path, **given: str) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return inherited | {"HERMES_DATA_DIR": str(folder / "data"), "COLUMNS": "200"} | given


def dlq(
    folder: Path, *arguments: str, program: Sequence[str] = ("-m", "hermes", "dlq"), **environ: str
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, *program, *arguments],
        env=environment(folder, **environ),
        cwd=Path(__file__).parents[2],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def listed(folder: Path, *options: str, **environ: str) -> list[dict[str, Any]]:
    finished = dlq(folder, "list", "--json", *options, **environ)
    assert finished.returncode == 0, finished.stderr
    return [json.loads(line) for line in finished.stdout.splitlines()]


def replayed(folder: Path, *options: str, code: int = 0, **environ: str) -> dict[str, Any]:
    """The counts of a replay that ends with this exit code."""
    finished = dlq(folder, "replay", "--json", *options, **environ)
    assert finished.returncode == code, finished.stderr
    summary = json.loads(finished.stdout)
    return {name: summary[name] for name in ("delivered", "refused", "left")}


def keep(folder: Path, *letters: DeadLetter) -> None:
    async def add() -> None:
        async with open_sqlite_dead_letters(folder / "data" / "dead-letters.db", 100_000) as store:
            await store.add(letters)

    trio.run(add)


def kept(folder: Path) -> int:
    """How many letters are in the file, without a command of its own."""
    with closing(sqlite3.connect(folder / "data" / "dead-letters.db")) as connection:
        return int(connection.execute("SELECT count(*) FROM letters").fetchone()[0])


def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not reached():
        assert time.monotonic() < end
        time.sleep(LOOK_SECONDS)


@pytest.fixture
def program(tmp_path: Path, postgres_dsn: str) -> Iterator[Program]:
    """A service with the postgres sink, its dead letters in ``tmp_path``."""
    running = Program(tmp_path, SINKS="postgres", DB_DSN=postgres_dsn, HERMES_DATA_DIR=str(tmp_path / "data"))
    yield running
    running.kill()


def post(url: str, found: list[dict[str, Any]] | str) -> None:
    body = found if isinstance(found, str) else json.dumps(found)
    answer = httpx.post(f"{url}/events", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 202, answer.text


def test_from_a_refusal_to_its_delivery_while_the_service_runs(
    program: Program, tmp_path: Path, postgres_dsn: str
) -> None:
    environ: dict[str, Any] = {"SINKS": "postgres", "DB_DSN": postgres_dsn}
    post(program.url, events(1, "first"))
    until(lambda: bool(execute(postgres_dsn, "SELECT to_regclass('events')")[0][0]))
    execute(postgres_dsn, "ALTER TABLE events ADD CONSTRAINT cheap CHECK ((payload->>'price')::int IS DISTINCT FROM 7)")
    post(program.url, [*events(3, "good"), *events(2, "dear", payload={"price": 7}), *events(1, "other")])
    poison = events(1, "huge", type="ad_clicked", payload=0)[0]
    post(program.url, json.dumps(poison).replace('"payload": 0', f'"payload": {TOO_LARGE}'))

    until(lambda: kept(tmp_path) == 3)
    letters = {letter["event"]["id"]: letter for letter in listed(tmp_path)}
    assert set(letters) == {"dear-0", "dear-1", "huge-0"}
    assert "23514" in letters["dear-0"]["reason"]
    assert {letter["sink"] for letter in letters.values()} == {"postgres"}
    number = str(letters["huge-0"]["number"])
    assert dlq(tmp_path, "show", number, "--payload").stdout == TOO_LARGE.encode()
    assert b"22003" in dlq(tmp_path, "show", number).stdout
    assert [each["event"]["id"] for each in listed(tmp_path, "--type", "ad_clicked", "--since", "1h")] == ["huge-0"]

    # Still refused: each says so, with one more attempt.
    attempts = letters["dear-0"]["attempts"]
    assert replayed(tmp_path, "--dry-run", **environ) == {"delivered": 0, "refused": 0, "left": 3}
    assert replayed(tmp_path, code=1, **environ) == {"delivered": 0, "refused": 3, "left": 0}
    assert {letter["attempts"] for letter in listed(tmp_path)} == {attempts + 1}

    execute(postgres_dsn, "ALTER TABLE events DROP CONSTRAINT cheap")
    assert replayed(tmp_path, "--reason", "23514", **environ) == {"delivered": 2, "refused": 0, "left": 0}
    assert replayed(tmp_path, "--reason", "23514", **environ) == {"delivered": 0, "refused": 0, "left": 0}
    stored = execute(postgres_dsn, "SELECT id, extract(epoch FROM received_at)::float FROM events ORDER BY id")
    assert [name for name, _ in stored] == ["dear-0", "dear-1", "first-0", "good-0", "good-1", "good-2", "other-0"]
    assert dict(stored)["dear-0"] == pytest.approx(letters["dear-0"]["received_at"], abs=0.001)

    assert dlq(tmp_path, "purge", "--sink", "postgres").returncode == 2
    assert dlq(tmp_path, "purge", number, "--yes").stdout == b"1 removed.\n"
    assert listed(tmp_path) == []
    assert program.stop() == 0


def test_letters_that_a_killed_service_had_written_are_there(
    program: Program, tmp_path: Path, postgres_dsn: str
) -> None:
    post(program.url, json.dumps(events(1, "huge", payload=0)[0]).replace('"payload": 0', f'"payload": {TOO_LARGE}'))
    program.wait_for_log("events rejected")
    program.kill()
    assert [letter["event"]["id"] for letter in listed(tmp_path)] == ["huge-0"]


def test_a_replay_that_dies_between_writing_and_removing_is_made_up_for_and_stores_once(
    tmp_path: Path, postgres_dsn: str
) -> None:
    own: dict[str, dict[str, Any]] = {"postgres": {"DB_DSN": postgres_dsn}, "sqlite": {}}
    for sink, environ in own.items():
        chosen = environ | {"SINKS": sink}
        keep(tmp_path, *(make_letter(n, sink=sink, payload='{"é": "\\n"}') for n in range(20)))
        died = dlq(tmp_path, "replay", program=("-c", DIES_BEFORE_REMOVING), **chosen)
        assert died.returncode == 9, died.stderr
        assert len(listed(tmp_path)) == 20
        assert stored(tmp_path, postgres_dsn, sink) == [f"event-{n}" for n in range(20)]
        assert replayed(tmp_path, **chosen) == {"delivered": 20, "refused": 0, "left": 0}
        assert listed(tmp_path) == []
        assert stored(tmp_path, postgres_dsn, sink) == [f"event-{n}" for n in range(20)]


def stored(folder: Path, dsn: str, sink: str) -> list[str]:
    """The ids in the table of a sink, by number."""
    if sink == "postgres":
        rows = execute(dsn, "SELECT id FROM events")
    else:
        connection = sqlite3.connect(folder / "data" / "events.db")
        rows = connection.execute("SELECT id FROM events").fetchall()
        connection.close()
    return sorted((name for (name,) in rows), key=lambda name: int(name.removeprefix("event-")))


def test_a_sink_that_is_down_leaves_everything_and_is_said(tmp_path: Path) -> None:
    keep(tmp_path, *(make_letter(n, sink="postgres") for n in range(3)))
    nowhere = {"SINKS": "postgres", "DB_DSN": "postgresql://127.0.0.1:1/none", "SINK_POSTGRES_TIMEOUT": "500ms"}
    assert replayed(tmp_path, code=1, **nowhere) == {"delivered": 0, "refused": 0, "left": 3}
    told = dlq(tmp_path, "replay", **nowhere)
    assert told.stdout.startswith(b"postgres: 0 delivered, 0 refused again, 3 left: no answer within SINK_POSTGRES")
    assert b"Traceback" not in told.stderr


def test_letters_in_postgres_are_everybodys(tmp_path: Path, postgres_dsn: str) -> None:
    async def add() -> None:
        async with open_postgres_dead_letters(postgres_dsn, 100) as store:
            await store.add([make_letter(n, sink="sqlite") for n in range(3)])

    trio.run(add)
    shared: dict[str, Any] = {"DURABILITY": "postgres", "DB_DSN": postgres_dsn, "SINKS": "sqlite"}
    assert [letter["event"]["id"] for letter in listed(tmp_path, **shared)] == ["event-0", "event-1", "event-2"]
    assert dlq(tmp_path, "purge", "--all", "--dry-run", **shared).stdout == b"3 would be removed.\n"
    assert replayed(tmp_path, **shared) == {"delivered": 3, "refused": 0, "left": 0}
    assert replayed(tmp_path, **shared) == {"delivered": 0, "refused": 0, "left": 0}
    assert stored(tmp_path, postgres_dsn, "sqlite") == ["event-0", "event-1", "event-2"]


def test_a_database_that_is_down_is_one_line_and_exit_code_1(tmp_path: Path) -> None:
    nowhere = {"DURABILITY": "postgres", "DB_DSN": "postgresql://me:hunter2@127.0.0.1:1/none?connect_timeout=1"}
    finished = dlq(tmp_path, "list", **nowhere)
    assert finished.returncode == 1
    assert finished.stderr.startswith(b"hermes: the dead letters in Postgres: ")
    assert finished.stderr.count(b"\n") == 1
    assert b"hunter2" not in finished.stderr


# Two processes, one file

WRITER = """
import sys, trio
from pathlib import Path
from hermes.dead_letters.sqlite import open_sqlite_dead_letters
from tests.dead_letters.kit import make_letter

async def main(path, sink, count):
    async with open_sqlite_dead_letters(Path(path), 100_000) as store:
        for n in range(int(count)):
            await store.add([make_letter(n, sink=sink)])
            print(n, flush=True)

trio.run(main, *sys.argv[1:])
"""


def writer(folder: Path, sink: str, count: int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder / "data" / "dead-letters.db"), sink, str(count)],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
    )


def test_two_processes_that_make_and_fill_the_file_together_lose_nothing(tmp_path: Path) -> None:
    writers = [writer(tmp_path, sink, 200) for sink in ("a", "b")]
    for each in writers:
        each.communicate(timeout=PATIENCE)
        assert each.returncode == 0
    letters = listed(tmp_path)
    assert len(letters) == 400
    assert {(letter["sink"], letter["event"]["id"]) for letter in letters} == {
        (sink, f"event-{n}") for sink in ("a", "b") for n in range(200)
    }


def test_commands_work_on_a_file_that_a_process_is_filling(tmp_path: Path) -> None:
    filling = writer(tmp_path, "sqlite", 400)
    assert filling.stdout
    filling.stdout.readline()  # the store is there
    delivered = 0
    while filling.poll() is None:
        delivered += replayed(tmp_path, SINKS="sqlite")["delivered"]
        filling.stdout.read1()  # type: ignore[attr-defined]
    assert filling.wait() == 0
    filling.stdout.close()
    delivered += replayed(tmp_path, SINKS="sqlite")["delivered"]
    assert delivered == 400
    assert stored(tmp_path, "", "sqlite") == [f"event-{n}" for n in range(400)]


def test_what_a_killed_process_had_added_is_there(tmp_path: Path) -> None:
    filling = writer(tmp_path, "a", 100_000)
    assert filling.stdout
    for _ in range(100):
        filling.stdout.readline()
    filling.send_signal(signal.SIGKILL)
    with filling.stdout:
        added = 100 + filling.stdout.read().count(b"\n")
    filling.wait()
    found = [letter["event"]["id"] for letter in listed(tmp_path)]
    assert found[:added] == [f"event-{n}" for n in range(added)]
    assert len(found) <= added + 1  # one more may have been added and not yet said


# On a terminal


def on_a_terminal(folder: Path, *arguments: str, answer: bytes = b"", **environ: str) -> tuple[int, bytes]:
    """Exit code and output of a command whose standard streams are a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "hermes", "dlq", *arguments],
        env=environment(folder, TERM="xterm", **environ),
        cwd=Path(__file__).parents[2],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    os.write(ours, answer)
    output = b""
    with suppress(OSError):  # EIO: nobody has the other side open any more
        while data := os.read(ours, 65536):
            output += data
    os.close(ours)
    return process.wait(PATIENCE), output


def test_on_a_terminal_a_replay_shows_a_bar(tmp_path: Path) -> None:
    keep(tmp_path, *(make_letter(n, sink="sqlite") for n in range(20)))
    code, output = on_a_terminal(tmp_path, "replay", "--rate", "100", SINKS="sqlite")
    assert code == 0
    assert b"10/20" in output
    assert b"20/20" in output
    assert b"sqlite: 20 delivered, 0 refused again, 0 left" in output


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, 0), (b"n\n", 1, 2)])
def test_on_a_terminal_a_purge_asks(tmp_path: Path, answer: bytes, code: int, left: int) -> None:
    keep(tmp_path, make_letter(0), make_letter(1))
    found, output = on_a_terminal(tmp_path, "purge", "--all", answer=answer)
    assert (found, len(listed(tmp_path))) == (code, left)
    assert b"Remove 2 dead letters for good? [y/N]" in output
