"""What the sink makes of an error that the server blames on a row, and of one that is a bug of ours."""

from __future__ import annotations

import psycopg
import pytest
from hermes_sinks.postgres.faults import judge
from psycopg import errors

from hermes.store.postgres import Fault, PoolTimeout


def test_no_connection_in_time_is_no_fault_of_a_row() -> None:
    assert judge(PoolTimeout("none in 5 s", None)) is Fault.SESSION


def test_a_mistake_of_ours_is_not_mistaken_for_an_outage() -> None:
    with pytest.raises(psycopg.ProgrammingError):
        judge(psycopg.ProgrammingError("the query has 2 placeholders but 1 parameter was passed"))


def test_a_fault_of_the_server_is_judged() -> None:
    assert judge(errors.InvalidTextRepresentation("as the server says")) is Fault.ROW
