"""From a connection string to a connected socket: defaults, name resolution, one attempt after another.

Invariant: connecting ends within `connect_timeout` an address, and leaves no socket behind when it fails or is
cancelled. Used by `connection`.
"""

from __future__ import annotations

import os
import socket

import trio
from psycopg import OperationalError
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_attempts, conninfo_to_dict, make_conninfo, timeout_from_conninfo
from psycopg.errors import ConnectionTimeout
from psycopg.generators import connect
from psycopg.pq.abc import PGconn

from hermes.postgres.errors import UnknownHost
from hermes.postgres.waiting import drive_connecting

CONNECT_TIMEOUT = 10
"""Seconds for one address, where neither the connection string nor PGCONNECT_TIMEOUT says otherwise."""

# libpq waits for ever for a peer that has vanished without a word, and the system's own keepalive takes two hours.
_DEFAULTS: ConnDict = {
    "fallback_application_name": "hermes",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# Of several hosts, or of the addresses of a name, the one that takes writes: after a failover it is another one.
_WRITABLE: ConnDict = {"target_session_attrs": "read-write"}
# What we send is UTF-8, and what a database of SQL_ASCII answers would else be bytes.
_UNKNOWN = (socket.EAI_NONAME, socket.EAI_NODATA)  # not EAI_AGAIN: that is a resolver that does not answer
_FIXED: ConnDict = {"client_encoding": "utf8"}


def connection_parameters(dsn: str) -> ConnDict:
    """Return the parameters of a connection string (a URL, or libpq's `key=value` pairs) over the driver's defaults.

    The encoding is UTF-8, whatever it says. A server that takes no writes is passed over, unless the string or
    PGTARGETSESSIONATTRS says which servers will do.

    Raises `psycopg.ProgrammingError` when the string makes no sense.
    """
    parameters = {**_DEFAULTS, **conninfo_to_dict(dsn), **_FIXED}
    if "connect_timeout" not in parameters and "PGCONNECT_TIMEOUT" not in os.environ:
        parameters["connect_timeout"] = CONNECT_TIMEOUT
    if "PGTARGETSESSIONATTRS" not in os.environ and "service" not in parameters:
        parameters = {**_WRITABLE, **parameters}
    return parameters


async def first_to_connect(parameters: ConnDict) -> PGconn:
    """Try each address of each host in turn, and return the first connection that is made.

    Raises `psycopg.OperationalError` with the reason of each failure, of its kind `UnknownHost` where no host exists.
    """
    timeout = timeout_from_conninfo(parameters)
    # The resolver blocks; a cancelled caller does not wait for its answer.
    try:
        attempts = await trio.to_thread.run_sync(conninfo_attempts, parameters, abandon_on_cancel=True)
    except OperationalError as error:
        # psycopg keeps no more of the resolver's error than its text.
        if any(f"[Errno {number:d}]" in str(error) for number in _UNKNOWN):
            raise UnknownHost(str(error)) from None
        raise
    failures: list[OperationalError] = []
    for attempt in attempts:
        try:
            with trio.move_on_after(timeout):
                return await drive_connecting(connect(make_conninfo("", **attempt)))
            where = attempt.get("hostaddr") or attempt.get("host")
            failures.append(ConnectionTimeout(f"connecting to {where} timed out after {timeout} s"))
        except OperationalError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    raise OperationalError("no host could be connected to: " + "; ".join(str(failure) for failure in failures))
