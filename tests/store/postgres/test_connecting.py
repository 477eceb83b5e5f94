"""What a connection string becomes before anything is dialed."""

from __future__ import annotations

import psycopg
import pytest

from hermes.store.postgres import open_pool
from hermes.store.postgres.connecting import connection_parameters


def test_a_bare_string_gets_bounds_for_every_wait() -> None:
    parameters = connection_parameters("host=db")
    assert parameters["connect_timeout"] == 10
    assert parameters["tcp_user_timeout"] == 30_000
    assert parameters["fallback_application_name"] == "hermes"


@pytest.mark.parametrize(
    "dsn",
    [
        "host=db connect_timeout=3 keepalives_idle=7",
        "postgresql://db/events?connect_timeout=3&keepalives_idle=7",
    ],
)
def test_what_the_string_says_has_precedence(dsn: str) -> None:
    parameters = connection_parameters(dsn)
    assert (parameters["host"], parameters["connect_timeout"], parameters["keepalives_idle"]) == ("db", "3", "7")


def test_the_encoding_is_ours_whatever_the_string_says() -> None:
    assert connection_parameters("host=db client_encoding=latin1")["client_encoding"] == "utf8"


def test_the_environment_has_precedence_over_the_default_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "4")
    assert "connect_timeout" not in connection_parameters("host=db")


@pytest.mark.parametrize("dsn", ["host", "no_such_option=1", "postgresql://db/?no_such_option=1"])
def test_a_senseless_string_is_refused_before_anything_is_dialed(dsn: str) -> None:
    with pytest.raises(psycopg.ProgrammingError):
        open_pool(dsn)
