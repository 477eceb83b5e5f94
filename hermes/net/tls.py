"""TLS of the listening addresses: the context, and a certificate that can be renewed while connections are served.

Invariant: every handshake uses one certificate with its own key. A renewal reads both files into a context of its own,
and a context whose files do not fit each other is never used: the old one stays.
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from hermes.base.errors import ConfigError

_HTTP = ("h2", "http/1.1")


class Certificate:
    """The chain and the key in these files. Raises `ConfigError` if the files cannot be used.

    The listener uses ``context`` for good: each handshake takes the newest certificate. ::

        certificate = Certificate("cert.pem", "key.pem")
        await trio.to_thread.run_sync(certificate.renew)  # after the files have changed
    """

    def __init__(self, chain: str, key: str) -> None:
        self._files = chain, key
        self._newest = open_tls_context(chain, key)
        self.context = open_tls_context(chain, key)
        # Called for every handshake, also where the client names no server. Loading new files into a context that is
        # in use would leave it with a chain and no key where the second file does not fit.
        self.context.sni_callback = self._use_newest

    def renew(self) -> None:
        """Read the files again, for the handshakes to come. Blocking. Raises `ConfigError`; the old one stays then."""
        self._newest = open_tls_context(*self._files)

    def _use_newest(self, connection: ssl.SSLObject, _server: str | None, _context: ssl.SSLContext) -> None:
        connection.context = self._newest


def open_tls_context(certificate: str, key: str, protocols: Sequence[str] = _HTTP, prefix: str = "") -> ssl.SSLContext:
    """A server's TLS context that offers these application protocols. Raises `ConfigError` for unusable files.

    The error names the settings TLS_CERT and TLS_KEY, behind the ``prefix`` of the address.
    """
    # The purpose names the other side: this is the context of a server.
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    # RFC 8996 has retired the versions before 1.2.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise ConfigError(
            f"{prefix}TLS_CERT={certificate!r}, {prefix}TLS_KEY={key!r}: cannot be used: {error}; "
            "both are paths of PEM files"
        ) from None
    if protocols:
        # Without ALPN no client speaks HTTP/2 over TLS (RFC 9113 §3.2).
        # The server's order decides (RFC 7301 §3.2): HTTP/2 for a client that offers both.
        context.set_alpn_protocols(list(protocols))
    return context
