"""The settings of the postgres sink, and what is refused at start."""

from __future__ import annotations

import pytest
from hermes_sinks.postgres import PostgresSettings, open_postgres
from hermes_sinks.postgres.settings import table_parts

from hermes import ConfigError, Storage
from hermes.config import read
from tests.sinks.configured import configure_sinks

DSN = "postgresql://user@127.0.0.1:1/none"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("events", ("events",)),
        ("Events", ("Events",)),
        ("analytics.events", ("analytics", "events")),
        ('"a.b"', ("a.b",)),
        ('"we""ird"."ta.ble"', ('we"ird', "ta.ble")),
        ('analytics."x y"', ("analytics", "x y")),
        ("x; DROP TABLE y", ("x; DROP TABLE y",)),  # quoted, it is but a strange name
        ("é" * 27, ("é" * 27,)),
    ],
)
def test_a_table_name_is_taken_as_it_is_written(text: str, parts: tuple[str, ...]) -> None:
    assert table_parts(text) == parts


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a.b.c", '"a', 'a"b', '""', "x" * 55, "é" * 28, "nul\0"])
def test_what_is_no_table_name_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"SINK_POSTGRES_TABLE=.*expected name or schema\.name"):
        table_parts(text)


def test_its_variables_are_declared() -> None:
    environ = {
        "SINK_POSTGRES_DSN": DSN,
        "SINK_POSTGRES_TABLE": "s.t",
        "SINK_POSTGRES_DEDUP": "false",
        "SINK_POSTGRES_PARTITION": "day",
        "SINK_POSTGRES_PARTITION_DAYS": "7",
        "SINK_POSTGRES_CONCURRENCY": "3",
        "SINK_POSTGRES_MAX_BATCH": "500",
        "SINK_POSTGRES_SYNCHRONOUS_COMMIT": "server",
    }
    (found,) = configure_sinks(["postgres"], environ)
    assert found.settings == PostgresSettings(DSN, "s.t", False, "day", 7, 3, 500, "server")


@pytest.mark.parametrize(
    ("environ", "settings", "words"),
    [
        ({}, PostgresSettings(), "DB_DSN is empty"),
        ({"DB_DSN": "hunter2"}, PostgresSettings(), r"DB_DSN=\(hidden\): expected a Postgres URL"),
        ({"DB_DSN": DSN}, PostgresSettings(dsn="hunter2"), r"SINK_POSTGRES_DSN=\(hidden\): expected a Postgres URL"),
        ({"DB_DSN": DSN}, PostgresSettings(table="a.b.c"), "SINK_POSTGRES_TABLE"),
    ],
)
async def test_settings_that_make_no_sense_are_refused_at_start(
    environ: dict[str, str], settings: PostgresSettings, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        async with open_postgres(settings, read(Storage, environ)):
            pass
    assert "hunter2" not in str(raised.value)


async def test_a_server_that_is_down_does_not_hinder_the_start() -> None:
    async with open_postgres(PostgresSettings(concurrency=8), Storage(db_dsn=DSN, max_open_conns=3)) as sink:
        assert sink.concurrency == 3
        assert sink.max_batch == 30_000
