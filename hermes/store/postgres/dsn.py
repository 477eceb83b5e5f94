"""Checks a connection string before Hermes dials: its form, its numbers and the values that libpq knows.

Invariant: no error message repeats a part of the string, because any part may be a piece of the password
(``u:p/ss@host`` has the port ``p``). Whether a host exists shows only when Hermes connects.
"""

from __future__ import annotations

import re

from psycopg import ProgrammingError, pq
from psycopg.abc import ConnDict
from psycopg.conninfo import make_conninfo, timeout_from_conninfo

from hermes.base.errors import ConfigError
from hermes.store.postgres.connecting import connection_parameters

_FORM = "expected a Postgres URL or libpq's key=value pairs, such as postgresql://user:password@host:5432/database"
_ESCAPE = "write : / ? # @ of a user or a password as %3A %2F %3F %23 %40"
# libpq reads these as numbers only when it dials, and psycopg does not check them.
_NUMBERS = ("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
# Nine digits always fit into the 32 bits of libpq's numbers.
_NUMBER = re.compile(r"\s*[+-]?\d{1,9}\s*", re.ASCII)
# A folder without a socket: libpq checks all options before it looks for the socket, and then dials nobody.
_NOWHERE = "/nonexistent/hermes"
# The places where libpq's messages quote a value.
_QUOTED = re.compile(r'"[^"]*"(?= for connection option)|(?<=: )".*"|(?<=service )".*?"', re.DOTALL)


def check_dsn(dsn: str, variable: str = "DB_DSN") -> None:
    """Raise `ConfigError`, which names the ``variable``, for a string that cannot lead to a server.

    >>> check_dsn("postgresql://ann:secret@localhost:port/events", "SINK_MY_DSN")
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: SINK_MY_DSN=(hidden): ...
    """
    try:
        parameters = connection_parameters(dsn)
        timeout_from_conninfo(parameters)
    except ProgrammingError:
        raise invalid_dsn(variable) from None
    for name in _NUMBERS:
        if not _NUMBER.fullmatch(str(parameters.get(name, 0))):
            raise ConfigError(f"{variable}=(hidden): {name} is no whole number; {_FORM}")
    fault = _find_fault(parameters)
    if fault:
        advice = f"{_FORM}; {_ESCAPE}" if "port" in fault else _FORM
        raise ConfigError(f"{variable}=(hidden): {fault}; {advice}")


def invalid_dsn(variable: str = "DB_DSN") -> ConfigError:
    """Return the error for a string that cannot be parsed.

    Raise it ``from None``, because the driver's own error may quote the string.
    """
    return ConfigError(f"{variable}=(hidden): {_FORM}; {_ESCAPE}")


def _find_fault(parameters: ConnDict) -> str:
    """Return libpq's message about the options, without their values; empty if the options are correct."""
    # As many hosts as before: libpq compares their number with the number of ports.
    hosts = str(parameters.get("hostaddr") or parameters.get("host") or "").split(",")
    # gssencmode: with `require` libpq would look for Kerberos credentials first, and hide the fault.
    changed = {**parameters, "host": ",".join([_NOWHERE] * len(hosts)), "hostaddr": None, "gssencmode": "disable"}
    connection = pq.PGconn.connect_start(make_conninfo("", **changed).encode())
    try:
        words = connection.error_message.decode(errors="replace")
    finally:
        connection.finish()
    # libpq reached the socket's folder, so it accepted every option.
    return "" if _NOWHERE in words else " ".join(_QUOTED.sub("(hidden)", words).split())
