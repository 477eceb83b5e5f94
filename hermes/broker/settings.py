"""Declares the settings of the broker. The variables are those of HermesMQ's own daemon, and some of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from hermes.base.errors import ConfigError
from hermes.config import Address, Duration, Secret, Size, about
from hermes.config.notation import ListenAddress

if TYPE_CHECKING:
    import ssl


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The broker's address and bounds. Sizes are in bytes, durations in seconds.

    >>> str(BrokerSettings().hermesmq_client_addr)
    '127.0.0.1:7600'
    """

    hermesmq_node_id: Annotated[int, about("number of this node in its cluster", ge=1)] = 1
    # Loopback by default: without a token whoever reaches the port reads and writes every topic.
    hermesmq_client_addr: Annotated[ListenAddress, about("listen address for the broker's clients")] = Address(
        "127.0.0.1", 7600
    )
    hermesmq_client_token: Annotated[Secret, about("token that a client has to show first; unset: open to all")] = ""
    # The bounds are those that HermesMQ has built in.
    hermesmq_tls_cert: Annotated[str, about("path of the TLS certificate chain (PEM) for the broker's clients")] = ""
    hermesmq_tls_key: Annotated[str, about("path of the TLS private key (PEM)")] = ""
    hermesmq_max_frame: Annotated[Size, about("largest message of a client on the wire", ge=1)] = 2 * 2**20
    hermesmq_max_name_bytes: Annotated[int, about("longest name of a topic, group or producer, in bytes", ge=1)] = 256
    hermesmq_max_topics: Annotated[int, about("topics at once", ge=1)] = 10_000
    hermesmq_max_groups: Annotated[int, about("groups of one topic", ge=1)] = 1_000
    hermesmq_max_visibility: Annotated[Duration, about("longest a message may be leased", gt=0)] = 12 * 3600.0
    hermesmq_group_ttl: Annotated[Duration, about("how long a group that is not in use is kept", gt=0)] = 168 * 3600.0
    hermesmq_max_connections: Annotated[int, about("clients at once; a further one is closed", ge=1)] = 4_096
    hermesmq_cache_bytes: Annotated[Size, about("payloads kept in memory; others are read from the log", ge=0)] = (
        64 * 2**20
    )


def check(settings: BrokerSettings) -> None:
    """Raise `ConfigError` for settings that do not fit each other, or files that cannot be used.

    >>> check(BrokerSettings(hermesmq_tls_cert="cert.pem"))
    Traceback (most recent call last):
    hermes.base.errors.ConfigError: HERMESMQ_TLS_CERT is set and HERMESMQ_TLS_KEY is not: set both, or neither
    """
    given = {"HERMESMQ_TLS_CERT": settings.hermesmq_tls_cert, "HERMESMQ_TLS_KEY": settings.hermesmq_tls_key}
    missing = [name for name, path in given.items() if not path]
    if len(missing) == 1:
        (present,) = given.keys() - missing
        raise ConfigError(f"{present} is set and {missing[0]} is not: set both, or neither")
    open_tls(settings)


def open_tls(settings: BrokerSettings) -> ssl.SSLContext | None:
    """The TLS context for the broker's clients; None without a certificate. Raises `ConfigError` for unusable files."""
    if not settings.hermesmq_tls_cert:
        return None
    # Here: a list of the commands loads neither OpenSSL nor the net.
    from hermes.net.tls import open_tls_context

    return open_tls_context(settings.hermesmq_tls_cert, settings.hermesmq_tls_key, (), "HERMESMQ_")
