"""Divides the process's limit of descriptors among clients, operators, sinks and journal.

A connection takes a descriptor (getrlimit(2), RLIMIT_NOFILE), and so do a file of the journal, a connection to a
database and a module during its import.

Invariant: clients alone never take the last descriptors.
"""

from __future__ import annotations

import resource
from contextlib import suppress
from typing import NamedTuple

# Few clients use the slow lanes; these numbers bound a flood, not the ordinary use.
CONTROL_CONNECTIONS = 1000
ADMIN_CONNECTIONS = 256

# For the files of the journal, connections to databases, profiles, and modules that are imported late.
_RESERVE = 256
# Under a small limit the reserve is a quarter of it, but the journal and one sink need this many.
_LEAST_RESERVE = 32
# Some libraries walk over all descriptors up to the limit; a million takes them milliseconds.
_MOST_DESCRIPTORS = 2**20


class Shares(NamedTuple):
    """The numbers of connections that may be open: on the fast lane, on the control lane, and on the admin address."""

    data: int
    control: int
    admin: int


def share(descriptors: int, max_connections: int) -> Shares:
    """Return the shares of a limit of ``descriptors``: MAX_CONNECTIONS and the other addresses' connections, or less.

    >>> share(1024, max_connections=10_000)
    Shares(data=539, control=153, admin=76)
    """
    wanted = Shares(max_connections, CONTROL_CONNECTIONS, ADMIN_CONNECTIONS)
    room = descriptors - max(_LEAST_RESERVE, min(_RESERVE, descriptors // 4))
    if sum(wanted) <= room:
        return wanted
    # At least two: one for a health check and one for an operator.
    control = max(2, min(wanted.control, room // 5))
    admin = max(2, min(wanted.admin, room // 10))
    return Shares(max(1, min(wanted.data, room - control - admin)), control, admin)


def wanted_descriptors(max_connections: int) -> int:
    """Return the least limit with which `share` leaves MAX_CONNECTIONS as it is."""
    return max_connections + CONTROL_CONNECTIONS + ADMIN_CONNECTIONS + _RESERVE


def descriptor_limit() -> int:
    """Return the present limit of descriptors."""
    # The soft limit is the one that the kernel enforces (getrlimit(2)).
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_DESCRIPTORS if soft == resource.RLIM_INFINITY else min(soft, _MOST_DESCRIPTORS)


def raise_descriptor_limit() -> None:
    """Raise the limit of this process as far as the system allows: a shell's 1,024 are too few for a server."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < most:
        # fs.nr_open or a sandbox may allow less. The limit then stays as it is.
        with suppress(OSError, ValueError):
            # The hard limit stays: a process without privileges could lower it, but never raise it again.
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
