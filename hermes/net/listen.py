"""Opens listening sockets, with an error that says which setting to change.

Invariant: of the errors of accept(2), only one that a bug of ours causes ends the service (`whose_fault`).
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from enum import Enum

import trio

from hermes.base.errors import ConfigError
from hermes.config import Address

# The default of the kernel's own bound since Linux 5.4 (net.core.somaxconn): the kernel cuts a higher number to that
# bound.
_BACKLOG = 4096
_MEND = "; choose an address of this machine, such as :8080 or 127.0.0.1:8080"
_MENDS = {
    errno.EADDRINUSE: "; stop what listens there, or choose another port",
    errno.EACCES: "; a port below 1024 wants the right to, so choose one above",
    errno.EADDRNOTAVAIL: "; choose an address of this machine, or none for all of them",
}

# Linux reports what has already befallen a new connection as the error of accept(2), which names these (and Trio
# ignores them): the connection is lost, the listener is whole.
_LOST_CONNECTION = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNRESET,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENONET,
        errno.ENOPROTOOPT,
        errno.EPERM,  # a firewall's rule
        errno.EPROTO,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.ETIMEDOUT,
    }
)
# No descriptor, a bad pointer, a socket that does not listen, no socket: no client and no shortage causes these.
_MISUSE = frozenset({errno.EBADF, errno.EFAULT, errno.EINVAL, errno.ENOTSOCK})


class Fault(Enum):
    """Who has to act on an error of accept(2)."""

    CLIENT = "client"
    """One connection is lost: accept the next."""
    KERNEL = "kernel"
    """The machine lacks descriptors or memory, or says something we do not know: accept again after a pause."""
    OURS = "ours"
    """The listener is no listener: a bug, which must be seen."""


def whose_fault(error: OSError) -> Fault:
    """Classify an error of accept(2), or of the wait for a listener to be ready."""
    if error.errno in _LOST_CONNECTION:
        return Fault.CLIENT
    return Fault.OURS if error.errno in _MISUSE else Fault.KERNEL


@contextmanager
def open_listeners(address: Address, variable: str = "HTTP_ADDR") -> Iterator[list[socket.socket]]:
    """Non-blocking listening sockets, closed at the end of the block; without a host, one for IPv4 and IPv6 together.

    Raises `ConfigError`, which names the ``variable``, if the address is in use or not of this machine.

    >>> with open_listeners(Address("127.0.0.1", 0)) as sockets:
    ...     addresses_of(sockets)[0][0]
    '127.0.0.1'
    """
    # A name may have several addresses: if a later one is taken, the sockets before it are closed.
    with ExitStack() as opened:
        with _blaming(address, variable):
            sockets = [opened.enter_context(sock) for sock in _bind(address)]
            # All are bound before the first one listens, so that a failed start lets no client in.
            for sock in sockets:
                sock.listen(_BACKLOG)
        yield sockets


def check_address(address: Address, variable: str) -> None:
    """Raise the error of `open_listeners` if there is one now, but listen nowhere: no client is let in."""
    with _blaming(address, variable):
        # Bound alone: bind(2) fails for an address in use, and the kernel refuses clients until a socket listens.
        for sock in _bind(address):
            sock.close()


def _bind(address: Address) -> Iterator[socket.socket]:
    # A kernel without IPv6, as in some containers, cannot bind `::`: then IPv4 alone.
    dual = not address.host and socket.has_dualstack_ipv6()
    host = address.host or ("::" if dual else "0.0.0.0")  # noqa: S104 - no host means all interfaces
    info = socket.getaddrinfo(host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    # A name may stand for one address twice, by two lines of /etc/hosts: the second bind would find the address in use.
    for family, *_, place in dict.fromkeys(info):
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            # A restart must not wait until the kernel has forgotten the connections of the process before.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                # Said either way: the default is a setting of the machine (net.ipv6.bindv6only).
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not dual))
            sock.setblocking(False)
            sock.bind(place)
        # The caller closes the sockets that were yielded, and this one was not.
        except OSError:
            sock.close()
            raise
        yield sock


@contextmanager
def _blaming(address: Address, variable: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # An error of getaddrinfo has a negative number, which is no errno.
        mend = _MENDS.get(error.errno or 0, _MEND)
        words = f"cannot listen there: {error.strerror or str(error)}{mend}"
        raise ConfigError(f"{variable}={str(address)!r}: {words}") from None


def addresses_of(sockets: Sequence[socket.socket]) -> Sequence[tuple[str, int]]:
    """Host and port of each socket of the Internet families."""
    # A simulation listens on Unix sockets, which have neither host nor port.
    # IPv6 has a flow and a scope behind host and port.
    return [sock.getsockname()[:2] for sock in sockets if sock.family in {socket.AF_INET, socket.AF_INET6}]


def address_of(sock: socket.socket | trio.socket.SocketType) -> str:
    """The address of the other side, for the log; empty if the client has left."""
    try:
        address = str(sock.getpeername()[0])
    except OSError:
        return ""
    # A client of IPv4, on a socket for both.
    return address.removeprefix("::ffff:")
