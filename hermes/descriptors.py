"""How many connections the process may hold: its limit of descriptors, less what sinks, journal and operators need.

A connection is a descriptor (getrlimit(2), RLIMIT_NOFILE), and so is a file of the journal, a connection to a database
and a module that is imported. Invariant: clients alone never take the last descriptors.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import NamedTuple

CONTROL_CONNECTIONS = 1000
ADMIN_CONNECTIONS = 256

_RESERVE = 256  # for the files of the journal, connections to databases, profiles, and modules that are imported late
_LEAST_RESERVE = 32
_MOST_DESCRIPTORS = 2**20  # what counts descriptors up to the limit, as some libraries do, ends within milliseconds


class Shares(NamedTuple):
    """Connections that may be open: of the fast lane, of the control lane, and on the admin address."""

    data: int
    control: int
    admin: int


def share(descriptors: int, max_connections: int) -> Shares:
    """What the limit of ``descriptors`` leaves of MAX_CONNECTIONS, and of what the other addresses may have."""
    wanted = Shares(max_connections, CONTROL_CONNECTIONS, ADMIN_CONNECTIONS)
    room = descriptors - max(_LEAST_RESERVE, min(_RESERVE, descriptors // 4))
    if sum(wanted) <= room:
        return wanted
    control = max(2, min(wanted.control, room // 5))
    admin = max(2, min(wanted.admin, room // 10))
    return Shares(max(1, min(wanted.data, room - control - admin)), control, admin)


def wanted_descriptors(max_connections: int) -> int:
    """The least limit with which `share` leaves MAX_CONNECTIONS as it is."""
    return max_connections + CONTROL_CONNECTIONS + ADMIN_CONNECTIONS + _RESERVE


def descriptor_limit() -> int:
    """The limit of descriptors now."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MOST_DESCRIPTORS)


def raise_descriptor_limit() -> None:
    """Raise the limit of this process as far as it may by itself: a shell's 1,024 are not meant for a server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):  # fs.nr_open, or a sandbox, may allow less: then it stays as it is
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
