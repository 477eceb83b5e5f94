"""The tests' own server: what the fixtures promise to every other integration test."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.servers.postgres import PostgresServer, ServerUnavailableError


def test_the_shared_server_is_durable(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        (fsync,) = connection.execute("SHOW fsync").fetchone() or ("",)
        (commit,) = connection.execute("SHOW synchronous_commit").fetchone() or ("",)
    assert (fsync, commit) == ("on", "on")


def test_every_test_gets_an_empty_database(postgres_dsn: str) -> None:
    with psycopg.connect(postgres_dsn) as connection:
        tables = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert tables == []
        assert connection.info.dbname.startswith("test_")


def test_a_killed_server_starts_again_with_its_committed_rows(own_postgres_server: PostgresServer) -> None:
    with psycopg.connect(own_postgres_server.dsn(unix_socket=True), autocommit=True) as connection:
        connection.execute("CREATE TABLE survivors (n int)")
        connection.execute("INSERT INTO survivors VALUES (7)")
        own_postgres_server.kill()
        with pytest.raises(psycopg.OperationalError):
            connection.execute("SELECT 1")
    own_postgres_server.start()
    with psycopg.connect(own_postgres_server.dsn()) as connection:
        assert connection.execute("SELECT n FROM survivors").fetchall() == [(7,)]


def test_a_missing_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("POSTGRES_BIN", str(tmp_path))
    with pytest.raises(ServerUnavailableError, match="POSTGRES_BIN"):
        PostgresServer()
