"""Who can act on an error: every code that psycopg knows, against what the documentation says of it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import psycopg
import pytest
from psycopg.errors import _sqlcodes, lookup

from hermes.store.postgres import Fault, PoolTimeout, fault_of
from hermes.store.postgres.sqlstate import FAULTS

CODES = sorted(code for code, error in _sqlcodes.items() if code == error.sqlstate)

# The faults that cost an event or a connection, by code; every other one leaves the batch and the session as they are.
EXPECTED = {
    Fault.ROW: "10608 20000 21000 22... 23000 23001 23502 23503 23514 23P01 27000 38... 44000 54000 54001 P0...",
    Fault.DUPLICATE: "23505",
    Fault.CONFLICT: "40000 40001 40002 40P01 72000",
    Fault.SESSION: "08... 0A000 0B000 24000 25... 26000 34000 3B... 40003 42P03 42P05 42P14 57P05",
    Fault.SERVER: "25006 57000 57P01 57P02 57P03 57P04 58... F0... XX...",
    Fault.BUSY: "53... 55006 55P03 57014",
    Fault.TABLE: "2200H",
}


class FromServer(psycopg.Error):
    """An error as the server reports it."""

    def __init__(self, code: str, **fields: str) -> None:
        super().__init__("as the server says")
        self.sqlstate = code
        self._fields = {"severity_nonlocalized": "ERROR", **fields}

    @property
    def diag(self) -> psycopg.errors.Diagnostic:
        names = ("severity_nonlocalized", "source_function", "table_name", "constraint_name")
        return cast("psycopg.errors.Diagnostic", SimpleNamespace(**{each: self._fields.get(each) for each in names}))


def expected(code: str) -> Fault:
    for exact in (True, False):
        for fault, patterns in EXPECTED.items():
            for pattern in patterns.split():
                if code == pattern or (not exact and pattern.endswith("...") and code.startswith(pattern[:2])):
                    return fault
    return Fault.TABLE


def test_psycopg_knows_the_codes_that_the_server_has() -> None:
    assert len(CODES) > 240
    assert {"23505", "25006", "57P01", "XX000"} <= set(CODES)


@pytest.mark.parametrize("kind", sorted({code[:2] for code in CODES}))
def test_every_code_has_a_fault_and_it_is_the_expected_one(kind: str) -> None:
    assert kind in FAULTS, "a class that the table does not know"
    for code in CODES:
        if code.startswith(kind):
            assert fault_of(lookup(code)("as the server says")) is expected(code), code


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (FromServer("23514", table_name="events"), Fault.TABLE),  # no partition for the row
        (FromServer("23514", table_name="events", constraint_name="theirs"), Fault.ROW),
        (FromServer("42501"), Fault.TABLE),
        (FromServer("42501", source_function="exec_stmt_raise"), Fault.ROW),  # a trigger may use any code
        (FromServer("AB123", source_function="exec_stmt_raise"), Fault.ROW),
        (FromServer("40001", source_function="exec_stmt_raise"), Fault.CONFLICT),
        (FromServer("AB123"), Fault.TABLE),  # of an extension
        (FromServer("54000", source_function="GetNewTransactionId"), Fault.BUSY),  # not every event for ever
        (FromServer("57014", severity_nonlocalized="FATAL"), Fault.SESSION),
        (FromServer("57P01", severity_nonlocalized="FATAL"), Fault.SERVER),
        (psycopg.OperationalError("the connection is lost"), Fault.SESSION),
        (psycopg.InterfaceError("the connection is closed"), Fault.SESSION),
        (PoolTimeout("none in 5 s", None), Fault.SESSION),
        (psycopg.ProgrammingError("the query has 2 placeholders but 1 parameter was passed"), None),
    ],
)
def test_what_else_an_error_says_counts_too(error: psycopg.Error, fault: Fault | None) -> None:
    assert fault_of(error) is fault
