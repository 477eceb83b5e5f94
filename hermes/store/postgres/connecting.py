"""Connects by a connection string: applies defaults, resolves names, tries one address after another.

Invariant: connecting ends within `connect_timeout` for each address, and leaves no socket behind when it fails or is
cancelled.
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

from hermes.store.postgres.errors import UnknownHost
from hermes.store.postgres.waiting import drive_connecting

CONNECT_TIMEOUT = 10
"""Seconds for one address, unless the connection string or PGCONNECT_TIMEOUT has another number."""

# Without these libpq waits for ever for a peer that has vanished: the kernel's own keepalive starts after two hours.
# 30 + 3 x 10 s find a dead peer of an idle connection within a minute; tcp_user_timeout (ms) finds it with unsent data.
_DEFAULTS: ConnDict = {
    # A fallback: application_name in the string and PGAPPNAME go before it.
    "fallback_application_name": "hermes",
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
# Of several hosts, or of several addresses of a name, one takes writes; after a failover it is another one.
_WRITABLE: ConnDict = {"target_session_attrs": "read-write"}
# Not EAI_AGAIN: the resolver did not answer, so the host may exist.
_UNKNOWN = (socket.EAI_NONAME, socket.EAI_NODATA)
# Hermes sends UTF-8. Without this a database with the encoding SQL_ASCII would answer with bytes instead of text.
_FIXED: ConnDict = {"client_encoding": "utf8"}


def connection_parameters(dsn: str) -> ConnDict:
    """Return the parameters of a connection string (a URL, or libpq's `key=value` pairs) over the driver's defaults.

    The encoding is UTF-8, whatever the string says. A server that takes no writes is skipped, unless the string or
    PGTARGETSESSIONATTRS names the kind of server.

    Raises `psycopg.ProgrammingError` if the string cannot be parsed.

    >>> connection_parameters("postgresql://ann@db.example/events")["dbname"]
    'events'
    """
    # In this order the string overrides the defaults, and the encoding overrides the string.
    parameters = {**_DEFAULTS, **conninfo_to_dict(dsn), **_FIXED}
    if "connect_timeout" not in parameters and "PGCONNECT_TIMEOUT" not in os.environ:
        parameters["connect_timeout"] = CONNECT_TIMEOUT
    # A parameter here would override the environment and the service file; both are the operator's choice.
    if "PGTARGETSESSIONATTRS" not in os.environ and "service" not in parameters:
        parameters = {**_WRITABLE, **parameters}
    return parameters


async def first_to_connect(parameters: ConnDict) -> PGconn:
    """Try each address of each host in turn, and return the first connection that succeeds.

    Raises `psycopg.OperationalError` with the reason of each failure; its subclass `UnknownHost` if no host exists.
    """
    timeout = timeout_from_conninfo(parameters)
    # The resolver blocks; a cancelled caller does not wait for its answer.
    try:
        attempts = await trio.to_thread.run_sync(conninfo_attempts, parameters, abandon_on_cancel=True)
    except OperationalError as error:
        # psycopg keeps no more of the resolver's error than its text.
        # psycopg raises its own error with only the text of the resolver's error.
        if any(f"[Errno {number:d}]" in str(error) for number in _UNKNOWN):
            raise UnknownHost(str(error)) from None
        raise
    # Every failure is kept: with several hosts the last one alone would hide why the primary refused.
    failures: list[OperationalError] = []
    for attempt in attempts:
        try:
            with trio.move_on_after(timeout):
                # Each attempt has a host address already, so libpq does not resolve, which would block the event loop.
                return await drive_connecting(connect(make_conninfo("", **attempt)))
            where = attempt.get("hostaddr") or attempt.get("host")
            failures.append(ConnectionTimeout(f"connecting to {where} timed out after {timeout} s"))
        except OperationalError as error:
            failures.append(error)
    # A single failure keeps its own class, which tells a wrong password from a dead server.
    if len(failures) == 1:
        raise failures[0]
    raise OperationalError("no host could be connected to: " + "; ".join(str(failure) for failure in failures))
