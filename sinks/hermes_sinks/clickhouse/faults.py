"""Judges ClickHouse's answer to an insert: its error, the row to suspect, the pause before the next attempt. Pure.

Invariant: only an error that the data causes rejects an event; after any other error (too many parts, memory, a missing
right or table) the batch is written again. The code of an error is in a header, or, if the insert fails half-way, only
in the body.

Source: ``src/Common/ErrorCodes.cpp`` of ClickHouse; a server tells them by ``SELECT errorCodeToName(252)``.
"""

from __future__ import annotations

import re

from hermes.kit.http import Answer
from hermes_sinks.clickhouse.rows import COLUMNS

UNKNOWN_TABLE = 60

_DATA = frozenset({
    6,    # CANNOT_PARSE_TEXT
    25,   # CANNOT_PARSE_ESCAPE_SEQUENCE
    26,   # CANNOT_PARSE_QUOTED_STRING
    27,   # CANNOT_PARSE_INPUT_ASSERTION_FAILED
    38,   # CANNOT_PARSE_DATE
    41,   # CANNOT_PARSE_DATETIME
    53,   # TYPE_MISMATCH
    69,   # ARGUMENT_OUT_OF_BOUND
    70,   # CANNOT_CONVERT_TYPE
    72,   # CANNOT_PARSE_NUMBER
    117,  # INCORRECT_DATA: JSON that the type JSON does not take
    128,  # TOO_LARGE_ARRAY_SIZE
    131,  # TOO_LARGE_STRING_SIZE
    190,  # SIZES_OF_ARRAYS_DONT_MATCH
    306,  # TOO_DEEP_RECURSION
    321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
    349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
    376,  # CANNOT_PARSE_UUID
    395,  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO, in a column that is computed
    407,  # DECIMAL_OVERFLOW
    441,  # CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING
    467,  # CANNOT_PARSE_BOOL
    469,  # VIOLATED_CONSTRAINT
    632,  # UNEXPECTED_DATA_AFTER_PARSED_VALUE
    675,  # CANNOT_PARSE_IPV4
    676,  # CANNOT_PARSE_IPV6
    691,  # UNKNOWN_ELEMENT_OF_ENUM
})  # fmt: skip

_MENDS = {
    16: "the table lacks a column: it needs id, user_id, type, ts, payload, received_at",
    81: "make the database, or set SINK_CLICKHOUSE_DATABASE",
    115: "the server knows no such setting: look after the ? of SINK_CLICKHOUSE_URL",
    164: "the user may only read",
    192: "check SINK_CLICKHOUSE_USER and SINK_CLICKHOUSE_PASSWORD",
    193: "check SINK_CLICKHOUSE_USER and SINK_CLICKHOUSE_PASSWORD",
    194: "check SINK_CLICKHOUSE_USER and SINK_CLICKHOUSE_PASSWORD",
    452: "the user may not set what an insert needs",
    497: "the user needs INSERT on the table, and CREATE TABLE where there is none",
    516: "check SINK_CLICKHOUSE_USER and SINK_CLICKHOUSE_PASSWORD",
}
_PAUSES = {
    202: 1.0,  # TOO_MANY_SIMULTANEOUS_QUERIES
    241: 1.0,  # MEMORY_LIMIT_EXCEEDED
    252: 2.0,  # TOO_MANY_PARTS: merging them takes seconds
}
"""The least pause before the next attempt, in seconds, for errors that too much work causes."""

_NAME = re.compile(r"\(([A-Z][A-Z0-9_]{3,60})\)")
_CONSTRAINT = re.compile(r"Constraint `?(\w{1,60})`? for table")
_COLUMN = re.compile(r"(?:value of key |Column \d{1,3}, +name: )(\w{1,60})\b")
_NUMBER = re.compile(r"[0-9]{1,4}")
_CODE = re.compile(r"\bCode: (\d{1,4})\. DB::")
_ROW = re.compile(r"\bat row (\d{1,9})\b")


def error_code(answer: Answer) -> int | None:
    """Return the code of an answer's error; None if the answer has no error, 0 for an error without a code.

    >>> error_code(Answer(404, {"x-clickhouse-exception-code": "60"}, b""))
    60
    """
    text = answer.headers.get("x-clickhouse-exception-code", "")
    # Bounded: the answer may come from any server, and int() raises for thousands of digits.
    if _NUMBER.fullmatch(text):
        return int(text)
    # An insert that fails half-way has sent its headers already, so its code is only in the body.
    found = _CODE.search(answer.body.decode(errors="replace"))
    if found is not None:
        return int(found[1])
    return None if 200 <= answer.status < 300 else 0


def blames_data(code: int) -> bool:
    """Return whether the rows are to blame."""
    return code in _DATA


def suspect(answer: Answer) -> int | None:
    """Return the row that the error points at, counted from 0. The row may be wrong.

    >>> suspect(Answer(400, {}, b"Code: 27. DB::Exception: Cannot parse input: (at row 7)"))
    6
    """
    # The message quotes values, and a value may hold the words "at row 7".
    found = _ROW.search(answer.body.decode(errors="replace"))
    # The server counts from 1.
    return int(found[1]) - 1 if found else None


def reason(answer: Answer, code: int) -> str:
    """Return the server's message, and how the operator can mend the error."""
    # The message of an error in the data quotes rows: only the names of error, constraint and column are safe.
    if blames_data(code):
        return _names(answer.body.decode(errors="replace"), code)
    words = answer.excerpt or f"it answered {answer.status}"
    mend = _MENDS.get(code)
    return f"{words} ({mend})" if mend else words


def _names(text: str, code: int) -> str:
    # The name of the error comes last; a value that is quoted before may look like a name.
    found = _NAME.findall(text)
    words = f"Code: {code}" + (f" {found[-1]}" if found else "")
    # The message has the names of columns and constraints before the first quoted value.
    constraint = _CONSTRAINT.search(text)
    if constraint is not None:
        return f"{words} (constraint {constraint[1]})"
    column = next((name for name in _COLUMN.findall(text) if name in COLUMNS), None)
    return f"{words} (column {column})" if column else words


def least_pause(code: int) -> float | None:
    """Return the least pause after this error, in seconds."""
    return _PAUSES.get(code)
