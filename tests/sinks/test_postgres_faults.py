"""What an error costs: an event only where its data is to blame; everything else leaves the batch for later."""

from __future__ import annotations

import psycopg
import pytest
from hermes_sinks.postgres.faults import Verdict, judge, reason
from psycopg import errors

from hermes.postgres import PoolTimeout


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (errors.UniqueViolation, Verdict.DUPLICATE),
        (errors.UntranslatableCharacter, Verdict.ROW),
        (errors.InvalidTextRepresentation, Verdict.ROW),
        (errors.CharacterNotInRepertoire, Verdict.ROW),
        (errors.NumericValueOutOfRange, Verdict.ROW),
        (errors.CheckViolation, Verdict.ROW),
        (errors.NotNullViolation, Verdict.ROW),
        (errors.StatementTooComplex, Verdict.ROW),
        (errors.RaiseException, Verdict.ROW),
        (errors.DeadlockDetected, Verdict.CONFLICT),
        (errors.SerializationFailure, Verdict.CONFLICT),
        (errors.AdminShutdown, Verdict.UNAVAILABLE),
        (errors.CannotConnectNow, Verdict.UNAVAILABLE),
        (errors.QueryCanceled, Verdict.UNAVAILABLE),
        (errors.DiskFull, Verdict.UNAVAILABLE),
        (errors.TooManyConnections, Verdict.UNAVAILABLE),
        (errors.LockNotAvailable, Verdict.UNAVAILABLE),
        (errors.UndefinedTable, Verdict.UNAVAILABLE),
        (errors.InsufficientPrivilege, Verdict.UNAVAILABLE),
        (errors.InvalidPassword, Verdict.UNAVAILABLE),
        (errors.ReadOnlySqlTransaction, Verdict.UNAVAILABLE),
        (errors.InternalError_, Verdict.UNAVAILABLE),
        (psycopg.OperationalError, Verdict.UNAVAILABLE),
        (psycopg.InterfaceError, Verdict.UNAVAILABLE),
    ],
)
def test_verdicts(error: type[psycopg.Error], verdict: Verdict) -> None:
    assert judge(error("as the server says")) is verdict


def test_no_connection_in_time_is_unavailable() -> None:
    assert judge(PoolTimeout("none in 5 s", None)) is Verdict.UNAVAILABLE


def test_a_mistake_of_ours_is_not_mistaken_for_an_outage() -> None:
    with pytest.raises(psycopg.ProgrammingError):
        judge(psycopg.ProgrammingError("the query has 2 placeholders but 1 parameter was passed"))


def test_a_reason_is_one_short_line() -> None:
    text = reason(errors.InvalidTextRepresentation("invalid\n  input " + "x" * 10_000))
    assert text.startswith("22P02 invalid input xxx")
    assert len(text) == 500
