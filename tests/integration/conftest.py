"""Fixtures of the tests that need real servers.

`postgres_server` is one PostgreSQL for the whole session: never stop, kill or pause it; make a `PostgresServer` of your
own for that. `postgres_dsn` is an empty database on it for each test. `start` starts ``hermes serve``. `random` prints
its seed. `browser` is a Chromium.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from hermes.observe.debug.exclusive import PROFILING
from tests.integration.program import Program, Start
from tests.needs import lacks
from tests.servers.postgres import PostgresServer, ServerUnavailableError

if TYPE_CHECKING:
    from playwright.sync_api import Browser


def start_postgres() -> PostgresServer:
    """Return a running server; skip the test where none can be had, or fail it under CI=true."""
    try:
        server = PostgresServer()
    except ServerUnavailableError as error:
        lacks(str(error))
    server.start()
    return server


@pytest.fixture
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile may follow another at once."""
    monkeypatch.setattr(PROFILING, "rest", 0)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One running server, shared by all tests of the session."""
    server = start_postgres()
    yield server
    server.remove()


@pytest.fixture
def postgres_dsn(postgres_server: PostgresServer) -> Iterator[str]:
    """The connection string of an empty database of the test's own; whatever is connected to it is ended afterwards."""
    database = postgres_server.create_database()
    yield postgres_server.dsn(database)
    postgres_server.recycle_database(database)


@pytest.fixture(scope="module")
def own_postgres_server() -> Iterator[PostgresServer]:
    """A running server of the test module's own, to restart, kill and pause; each test leaves it running."""
    server = start_postgres()
    yield server
    server.remove()


@pytest.fixture(scope="session")
def patient_postgres_server() -> Iterator[PostgresServer]:
    """The server behind `mortal_postgres_server`: to make and remove one takes longer than most tests."""
    server = start_postgres()
    yield server
    server.remove()


@pytest.fixture
def mortal_postgres_server(patient_postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A running server to stop and kill: no other test uses it now, but others have. Take a new database of it."""
    yield patient_postgres_server
    if not patient_postgres_server.running:
        patient_postgres_server.start()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start the program with these variables, in an empty folder; whatever still runs afterwards is killed."""
    started: list[Program] = []

    def start(*parts: str, **environ: str) -> Program:
        started.append(Program(tmp_path, *parts, **environ))
        return started[-1]

    yield start
    for program in started:
        program.kill()


@pytest.fixture
def random() -> Random:
    """A source of randomness that is another one each time; its seed, which SEED sets, is shown by a failure."""
    seed = int(os.environ.get("SEED") or Random().randrange(2**32))
    print(f"SEED={seed}")
    return Random(seed)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A Chromium for all tests of a module; they are skipped where there is none."""
    from tests.integration.browser import open_browser  # Playwright, which most tests do without

    with open_browser() as browser:
        yield browser
