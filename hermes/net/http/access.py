"""What lets clients in and can change while the service runs: the keys of both addresses, and the certificate.

Invariant: both lanes and both addresses look here, so that a change holds for every request that is read after it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hermes.net.http.keys import Keys
from hermes.net.settings import AccessSettings
from hermes.net.tls import Certificate


class Access:
    """As the settings say. Raises `ConfigError` for a certificate that cannot be used."""

    def __init__(self, settings: AccessSettings) -> None:
        self.api_keys = Keys(settings.api_keys)
        self.admin_keys = Keys(settings.admin_keys)
        self.certificate = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        self._tell: list[Callable[[], None]] = []

    def when_keys_change(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` after each change of the keys: decisions by the old keys hold no longer."""
        self._tell.append(forget)

    def change_keys(self, api_keys: Sequence[str], admin_keys: Sequence[str]) -> None:
        """From now on these keys are taken, and no others."""
        self.api_keys.replace(api_keys)
        self.admin_keys.replace(admin_keys)
        for forget in self._tell:
            forget()
