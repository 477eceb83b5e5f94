"""Declares the settings of the two addresses: HTTP for applications, the keys and the certificate, ADMIN_ADDR."""

# Apart from the packages that have these settings: a list of the commands reads settings, and imports neither lane.

from __future__ import annotations

from typing import Annotated

import msgspec

from hermes.config import Address, Duration, Names, Secrets, Size, about
from hermes.config.notation import Guard, ListenAddress, OptionalAddress


class HttpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """HTTP_ADDR and the bounds of its requests and connections. Sizes are in bytes, durations in seconds.

    >>> HttpSettings(max_body_bytes=2**20).idle_timeout
    75.0
    """

    http_addr: Annotated[ListenAddress, about("listen address (`:8080`, `127.0.0.1:8080`, `[::1]:8080`)")] = Address(
        "", 8080
    )
    # The bodies of every part's requests take this room together, until they are committed or delivered.
    queue_bytes: Annotated[Size, about("capacity of the bounded queue, in bytes of request bodies", ge=1)] = 256 * 2**20
    max_body_bytes: Annotated[Size, about("largest request body, counted before and after decompression", ge=1)] = (
        10 * 2**20
    )
    max_connections: Annotated[
        int, about("connections held at once; beyond, one that rests gives way, or the new one waits", ge=1)
    ] = 10_000
    # A deadline for each phase, so that a client that sends a byte now and then (Slowloris) loses its connection.
    header_timeout: Annotated[Duration, about("longest a request's headers may take", gt=0)] = 10.0
    body_timeout: Annotated[Duration, about("longest a request's body may take", gt=0)] = 30.0
    idle_timeout: Annotated[Duration, about("longest a connection may rest between requests", gt=0)] = 75.0
    write_timeout: Annotated[Duration, about("longest a client may leave its response unread", gt=0)] = 30.0
    cors_origins: Annotated[Names, about("comma list of origins that browsers may post from, or `*`")] = ()


class AccessSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The keys of both addresses, and the certificate.

    >>> AccessSettings(api_keys=("k1",)).admin_keys
    ()
    """

    api_keys: Annotated[Secrets, about("comma list of keys that may post events; unset: open to all")] = ()
    admin_keys: Annotated[
        Secrets, about("comma list of keys for ADMIN_ADDR; unset: open to everybody on this machine")
    ] = ()
    tls_cert: Annotated[Guard, about("path of the TLS certificate chain (PEM); with TLS_KEY: serve HTTPS")] = ""
    tls_key: Annotated[Guard, about("path of the TLS private key (PEM)")] = ""


class AdminSettings(msgspec.Struct, frozen=True, kw_only=True):
    """ADMIN_ADDR, and whether the debugging is served on HTTP_ADDR too.

    >>> str(AdminSettings().admin_addr)
    '127.0.0.1:8081'
    """

    # Loopback by default: the dashboard and the dead letters show events, and the replay writes to the sinks.
    admin_addr: Annotated[
        OptionalAddress,
        about(
            "listen address for operators: the dashboard, `/debug/`, the dead letters and their replay; `off`: none. "
            "Beyond loopback it wants ADMIN_KEYS"
        ),
    ] = Address("127.0.0.1", 8081)
    debug_endpoints: Annotated[bool, about("serve `/debug/` on HTTP_ADDR too, to everybody who can reach it")] = False
