"""Puts together the settings that every part may read: a group of each owner below the parts.

A part declares its own settings beside itself, and a sink too.

Invariant: `Settings` that were read are consistent with each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated

import msgspec

from hermes.base.errors import ConfigError
from hermes.config import Duration, Mistakes, Names, about, try_read
from hermes.net.settings import AccessSettings, AdminSettings, HttpSettings
from hermes.observe.settings import LogSettings
from hermes.store.settings import Storage

# Half of the largest record of a log (`hermes.store.log.rows.MAX_RECORD_BYTES`).
MOST_JOURNALED_BODY = 128 * 2**20
"""The largest request body that the journal takes, in bytes. The record of a body may be twice as large as the body, or
larger; the request is answered with 413 then."""


class RunSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which parts run, from which file they are set up, and how long they may take to stop.

    >>> RunSettings().parts
    ('events',)
    """

    parts: Annotated[
        Names, about("comma list of the parts of Hermes to run, with the parts that they need; `all`: every one")
    ] = ("events",)
    hermes_config: Annotated[
        str,
        about(
            "path of a file in TOML with settings, which the environment goes before; `off`: no file",
            default="`hermes.toml` in the working directory, if it is there",
        ),
    ] = ""
    # At most a day: a mistyped number must not keep a stop waiting for ever.
    shutdown_timeout: Annotated[Duration, about("deadline of a graceful stop", gt=0, le=86_400)] = 30.0


@dataclass(frozen=True)
class Settings:
    """The settings of the service that every part may read, by their owners.

    >>> Settings(storage=Storage(durability="memory")).run.shutdown_timeout
    30.0
    """

    run: RunSettings = field(default_factory=RunSettings)
    http: HttpSettings = field(default_factory=HttpSettings)
    access: AccessSettings = field(default_factory=AccessSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    storage: Storage = field(default_factory=Storage)
    logs: LogSettings = field(default_factory=LogSettings)

    def groups(self) -> Iterator[msgspec.Struct]:
        """Every group, in order."""
        return (getattr(self, each.name) for each in fields(self))


GROUPS: Mapping[str, type[msgspec.Struct]] = {
    "run": RunSettings,
    "http": HttpSettings,
    "access": AccessSettings,
    "admin": AdminSettings,
    "storage": Storage,
    "logs": LogSettings,
}
"""The groups of `Settings`, by the names of its fields."""


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of the service, checked together. Raises `ConfigError` with one line for each mistake.

    >>> settings = read_settings({"HERMES_DATA_DIR": "/var/lib/hermes", "MAX_CONNECTIONS": "1000"})
    >>> settings.storage.hermes_data_dir, settings.http.max_connections
    (PosixPath('/var/lib/hermes'), 1000)
    """
    mistakes = Mistakes()
    settings = collect_settings(environ, mistakes)
    mistakes.raise_any()
    return settings


def collect_settings(environ: Mapping[str, str], mistakes: Mistakes) -> Settings:
    """Return the settings as `read_settings` does, errors in ``mistakes``. The default stands for a bad value."""
    # No setting of these groups has to be set, so that each group can be made.
    groups = {name: try_read(group, environ, mistakes) or group() for name, group in GROUPS.items()}
    settings = Settings(**groups)  # type: ignore[arg-type]
    # Raised inside of `collect`, which drops a mistake about a variable that could not be read.
    for mistake in _find_mistakes(settings):
        with mistakes.collect():
            raise ConfigError(mistake)
    return settings


def _find_mistakes(settings: Settings) -> Iterator[str]:
    """Yield one line for each mistake between settings that depend on each other; the line names every variable
    concerned.
    """
    access, storage, largest = settings.access, settings.storage, settings.http.max_body_bytes
    # TLS_KEY alone would start a service without TLS, and its operator would believe that there is TLS.
    if bool(access.tls_cert) != bool(access.tls_key):
        yield "TLS_CERT and TLS_KEY: set both to serve HTTPS, or neither"
    admin = settings.admin.admin_addr
    # The admin address replays and deletes dead letters, so nobody else may reach it without a key.
    if admin is not None and not admin.is_loopback and not access.admin_keys:
        yield f"ADMIN_ADDR={str(admin)!r}: set ADMIN_KEYS, for others can reach it, or listen on 127.0.0.1"
    # Told here, without a socket: `hermes config check` has to find it too, and opens none.
    if admin is not None and admin.collides(settings.http.http_addr):
        both = f"HTTP_ADDR={str(settings.http.http_addr)!r} and ADMIN_ADDR={str(admin)!r}"
        yield f"{both} are the same address: choose another port"
    # libpq takes an empty DSN for its own defaults: the journal would go to a database that no setting names.
    if storage.durability == "postgres" and not storage.db_dsn:
        yield "DURABILITY='postgres': set DB_DSN, the journal's database, or choose disk or memory"
    if storage.durability != "memory" and largest > MOST_JOURNALED_BODY:
        yield (
            f"MAX_BODY_BYTES={largest}: a request may be one record of the journal, so at most "
            f"{MOST_JOURNALED_BODY} (128MiB) can be taken with DURABILITY={storage.durability}"
        )
