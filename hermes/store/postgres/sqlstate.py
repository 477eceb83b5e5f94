"""Says who can act on an error of the server: one table from SQLSTATE to `Fault`. Pure.

Invariants: `ROW` is only an error that the row itself causes; a connection is kept only if its session and its server
are as good as before. A code that the table lacks has the fault of its class, the first two characters.

Source: PostgreSQL documentation, appendix A, "PostgreSQL Error Codes".
"""

from __future__ import annotations

import enum

from psycopg import Error, InterfaceError, OperationalError


class Fault(enum.Enum):
    """The obstacle of a statement, and who can act."""

    ROW = "what the row holds: no later attempt will store it"
    DUPLICATE = "a row with the same key: it is stored already, or another one is in its way"
    CONFLICT = "another transaction: the same statement may pass at once"
    BUSY = "a lock, a limit or a time-out: the same statement may pass later, on the same session"
    TABLE = "the statement, the table, a right or a setting: the operator"
    SESSION = "the state of this session: another one may do"
    SERVER = "the server: it stops, it starts, or it is not the one that takes writes any more; dial anew"


FAULTS = {
    "02": Fault.TABLE,      # no data
    "03": Fault.TABLE,      # SQL statement not yet complete
    "08": Fault.SESSION,    # connection exception
    "09": Fault.TABLE,      # triggered action exception
    "0A": Fault.SESSION,    # feature not supported: "cached plan must not change result type" is one
    "0B": Fault.SESSION,    # invalid transaction initiation
    "0F": Fault.TABLE,      # locator exception
    "0L": Fault.TABLE,      # invalid grantor
    "0P": Fault.TABLE,      # invalid role specification
    "0Z": Fault.TABLE,      # diagnostics exception
    "10": Fault.ROW,        # XQuery error
    "20": Fault.ROW,        # case not found, in a trigger
    "21": Fault.ROW,        # cardinality violation, in a trigger
    "22": Fault.ROW,        # data exception: no valid JSON for jsonb, no valid UTF-8, ...
    "2200H": Fault.TABLE,   # a sequence of the operator's has reached its limit
    "23": Fault.ROW,        # integrity constraint violation; 23514 without a constraint: see `fault_of`
    "23505": Fault.DUPLICATE,
    "24": Fault.SESSION,    # invalid cursor state
    "25": Fault.SESSION,    # invalid transaction state; FATAL: idle in transaction for too long
    "25006": Fault.SERVER,  # read-only: a standby since a failover
    "26": Fault.SESSION,    # invalid SQL statement name: a prepared statement that this session does not know
    "27": Fault.ROW,        # triggered data change violation
    "28": Fault.TABLE,      # invalid authorization specification
    "2B": Fault.TABLE,      # dependent privilege descriptors still exist
    "2D": Fault.TABLE,      # invalid transaction termination, in a trigger
    "2F": Fault.TABLE,      # SQL routine exception: a function without RETURN
    "34": Fault.SESSION,    # invalid cursor name
    "38": Fault.ROW,        # external routine exception: raised by a trigger in another language
    "39": Fault.TABLE,      # external routine invocation exception: a trigger that returns no row
    "3B": Fault.SESSION,    # savepoint exception
    "3D": Fault.TABLE,      # invalid catalog name: the database
    "3F": Fault.TABLE,      # invalid schema name
    "40": Fault.CONFLICT,   # transaction rollback: serialization failure, deadlock
    "40003": Fault.SESSION,  # statement completion unknown
    "42": Fault.TABLE,      # syntax error or access rule violation: a missing table, a missing right
    "42P03": Fault.SESSION,  # duplicate cursor
    "42P05": Fault.SESSION,  # duplicate prepared statement: the session of another client of a pooler
    "42P14": Fault.SESSION,  # invalid prepared statement definition
    "44": Fault.ROW,        # WITH CHECK OPTION violation: a view
    "53": Fault.BUSY,       # insufficient resources: disk, memory, connections
    "54": Fault.ROW,        # program limit exceeded: JSON nested too deep, an index row too large
    "54011": Fault.TABLE,   # too many columns
    "54023": Fault.TABLE,   # too many arguments
    "55": Fault.TABLE,      # object not in prerequisite state
    "55006": Fault.BUSY,    # object in use
    "55P03": Fault.BUSY,    # lock not available
    "57": Fault.SERVER,     # operator intervention: shutdown, crash of another session, start, database dropped
    "57014": Fault.BUSY,    # query canceled: statement_timeout
    "57P05": Fault.SESSION,  # idle session timeout
    "58": Fault.SERVER,     # system error: I/O
    "72": Fault.CONFLICT,   # snapshot too old
    "F0": Fault.SERVER,     # configuration file error
    "HV": Fault.TABLE,      # foreign data wrapper: a partition elsewhere
    "P0": Fault.ROW,        # raised by a trigger in PL/pgSQL
    "XX": Fault.SERVER,     # internal error, data corrupted
}  # fmt: skip

# The server's function that runs PL/pgSQL's RAISE. A trigger may raise with any code; the row is at fault all the same.
_RAISED = "exec_stmt_raise"
# The functions that raise 54000 before a wraparound.
_NO_MORE_TRANSACTIONS = ("GetNewTransactionId", "GetNewMultiXactId")


def fault_of(error: Error) -> Fault | None:
    """Return the fault of an error. None: neither server nor network made the error, so the caller has a bug.

    >>> fault_of(psycopg.errors.OperationalError("the connection is lost"))
    <Fault.SESSION: 'the state of this session: another one may do'>
    """
    code, diag = error.sqlstate, error.diag
    # An error without a code comes from libpq or psycopg, not from the server.
    if code is None:
        return Fault.SESSION if isinstance(error, OperationalError | InterfaceError) else None
    # A code of a newer server than this table: the operator is told, and no row is blamed.
    fault = FAULTS.get(code) or FAULTS.get(code[:2], Fault.TABLE)
    # FATAL and PANIC end the session, whatever their code says.
    if diag.severity_nonlocalized in ("FATAL", "PANIC"):
        return fault if fault is Fault.SERVER else Fault.SESSION
    # A serialization failure that a trigger raised on purpose asks for a retry.
    if diag.source_function == _RAISED and fault is not Fault.CONFLICT:
        return Fault.ROW
    # The server refuses new transactions until a VACUUM, which may end by itself.
    if diag.source_function in _NO_MORE_TRANSACTIONS:
        return Fault.BUSY
    # A check violation without a constraint: the table has no partition for the row, and the operator can add one.
    if code == "23514" and diag.table_name and not diag.constraint_name:
        return Fault.TABLE
    return fault
