"""The keys of both addresses and the certificate, which can change while the service runs.

Invariant: both lanes and both addresses look here, so that a change holds for every request that is read afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hermes.net.http.keys import Keys
from hermes.net.settings import AccessSettings
from hermes.net.tls import Certificate


class Access:
    """The keys and the certificate that the settings name. Raises `ConfigError` for an unusable certificate.

    ::

        access = Access(settings)
        access.when_keys_change(heads.forget)
        access.change_keys(["new-key"], ["new-admin-key"])
    """

    def __init__(self, settings: AccessSettings) -> None:
        self.api_keys = Keys(settings.api_keys)
        self.admin_keys = Keys(settings.admin_keys)
        self.certificate = Certificate(settings.tls_cert, settings.tls_key) if settings.tls_cert else None
        # A list: each part of the edge that remembers decisions adds itself.
        self._tell: list[Callable[[], None]] = []

    def when_keys_change(self, forget: Callable[[], None]) -> None:
        """Call ``forget`` after each change of the keys: decisions by the old keys hold no longer."""
        self._tell.append(forget)

    def change_keys(self, api_keys: Sequence[str], admin_keys: Sequence[str]) -> None:
        """Take these keys from now on, and no others."""
        self.api_keys.replace(api_keys)
        self.admin_keys.replace(admin_keys)
        # After the change: the next head is judged by the new keys, and remembered so.
        for forget in self._tell:
            forget()
