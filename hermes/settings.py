"""Declares the settings of the service: the one place where a variable of the environment is declared.

A sink declares its own settings (``SINK_<NAME>_*``). The command line reads all settings once, at start.

Invariant: `Settings` that were read are consistent with each other.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import msgspec

from hermes.base.errors import ConfigError
from hermes.config.declaration import try_read
from hermes.config.mistakes import Mistakes
from hermes.config.notation import (
    Address,
    Duration,
    EventTypes,
    Guard,
    ListenAddress,
    Names,
    OptionalAddress,
    Secrets,
    Size,
    about,
)
from hermes.store.settings import Storage

MOST_JOURNALED_BODY = 128 * 2**20
"""The largest request body that the journal takes, in bytes. The record of a body may be twice as large as the body, or
larger; the request is answered with 413 then."""


class Settings(Storage, frozen=True, kw_only=True):
    """The settings of the service. Sizes are in bytes and durations in seconds.

    A sink declares its own settings (``SINK_<NAME>_*``).

    >>> Settings(durability="memory").flush_interval
    0.1
    """

    http_addr: Annotated[ListenAddress, about("listen address (`:8080`, `127.0.0.1:8080`, `[::1]:8080`)")] = Address(
        "", 8080
    )
    # Loopback by default: the dashboard and the dead letters show events, and the replay writes to the sinks.
    admin_addr: Annotated[
        OptionalAddress,
        about(
            "listen address for operators: the dashboard, `/debug/`, the dead letters and their replay; `off`: none. "
            "Beyond loopback it wants ADMIN_KEYS"
        ),
    ] = Address("127.0.0.1", 8081)
    admin_keys: Annotated[
        Secrets, about("comma list of keys for ADMIN_ADDR; unset: open to everybody on this machine")
    ] = ()
    # Two bounds on one queue: small events fill it by their number, large ones by their bytes.
    queue_size: Annotated[int, about("capacity of the bounded queue, in events", ge=1)] = 100_000
    queue_bytes: Annotated[Size, about("capacity of the bounded queue, in bytes of request bodies", ge=1)] = 256 * 2**20
    # Workers wait for a sink most of the time, so several to a processor. The bound of 4096 keeps a mistyped number
    # from starting as many tasks.
    worker_count: Annotated[
        int, about("workers: the most batches in flight at one sink", default="CPUs × 4", ge=1, le=4096)
    ] = msgspec.field(default_factory=lambda: 4 * (os.cpu_count() or 1))
    batch_size: Annotated[int, about("a buffer that reaches this many events is flushed", ge=1)] = 1000
    flush_interval: Annotated[Duration, about("longest a non-empty buffer waits", gt=0)] = 0.1
    backpressure_mode: Annotated[
        Literal["strict", "block"],
        about("when the queue is full: `strict` answers 503 at once, `block` holds the request until there is room"),
    ] = "strict"
    # At most a day: a mistyped number must not keep a stop waiting for ever.
    shutdown_timeout: Annotated[Duration, about("deadline of a graceful stop", gt=0, le=86_400)] = 30.0
    hermes_config: Annotated[
        str,
        about(
            "path of a file in TOML with settings, which the environment goes before; `off`: no file",
            default="`hermes.toml` in the working directory, if it is there",
        ),
    ] = ""
    parts: Annotated[
        Names, about("comma list of the parts of Hermes to run, with the parts that they need; `all`: every one")
    ] = ("events",)
    sinks: Annotated[Names, about("comma list of sink names", default="`postgres` with a DB_DSN, else `null`")] = ()
    journal_max_bytes: Annotated[
        Size, about("most that the journal keeps for sinks that are behind; beyond it requests get 503", ge=1)
    ] = 10 * 2**30
    ack_timeout: Annotated[
        Duration, about("longest that a request with `Hermes-Ack: delivered` waits for the sinks", gt=0)
    ] = 30.0
    event_types: Annotated[
        EventTypes, about("event types that are taken; `*` = any name of 1 to 64 of `[A-Za-z0-9_.:-]`")
    ] = ("trip_started", "song_played", "ad_clicked", "location_update")
    event_times: Annotated[
        Literal["seconds", "any"],
        about(
            "how an event's `timestamp` may be written: whole Unix `seconds`; `any`: also Unix milliseconds (a number "
            "above 253402300799), numbers with a fraction, and RFC 3339 text, each rounded down to seconds"
        ),
    ] = "seconds"
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
    api_keys: Annotated[Secrets, about("comma list of keys that may post events; unset: open to all")] = ()
    cors_origins: Annotated[Names, about("comma list of origins that browsers may post from, or `*`")] = ()
    tls_cert: Annotated[Guard, about("path of the TLS certificate chain (PEM); with TLS_KEY: serve HTTPS")] = ""
    tls_key: Annotated[Guard, about("path of the TLS private key (PEM)")] = ""
    aggregate_minutes: Annotated[int, about("minutes of counts that /aggregates keeps", ge=1)] = 1440
    aggregate_flush_interval: Annotated[
        Duration, about("how often the counts are sent to the sinks as events; 0: never", ge=0)
    ] = 0.0
    debug_endpoints: Annotated[bool, about("serve `/debug/` on HTTP_ADDR too, to everybody who can reach it")] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], about("least important log line that is written")
    ] = "info"
    log_format: Annotated[Literal["auto", "console", "json"], about("`auto`: `console` on a terminal, else `json`")] = (
        "auto"
    )

    @property
    def storage(self) -> Storage:
        """The part of the settings that a sink gets: where the service keeps things."""
        return Storage(**{name: getattr(self, name) for name in Storage.__struct_fields__})

    def sink_names(self) -> tuple[str, ...]:
        """Return the names of the sinks to run, from SINKS or from the default that DB_DSN implies."""
        return self.sinks or (("postgres",) if self.db_dsn else ("null",))


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of the service, checked together. Raises `ConfigError` with one line for each mistake.

    >>> settings = read_settings({"HERMES_DATA_DIR": "/var/lib/hermes", "QUEUE_SIZE": "1000"})
    >>> settings.hermes_data_dir, settings.queue_size
    (PosixPath('/var/lib/hermes'), 1000)
    """
    mistakes = Mistakes()
    settings = collect_settings(environ, mistakes)
    mistakes.raise_any()
    return settings


def collect_settings(environ: Mapping[str, str], mistakes: Mistakes) -> Settings:
    """Return the settings as `read_settings` does, errors in ``mistakes``. The default stands for a bad value."""
    settings = try_read(Settings, environ, mistakes)
    if settings is None:
        raise AssertionError("a setting of the service has no default")
    # Raised inside of `collect`, which drops a mistake about a variable that could not be read.
    for mistake in _find_mistakes(settings):
        with mistakes.collect():
            raise ConfigError(mistake)
    return settings


def _find_mistakes(settings: Settings) -> Iterator[str]:
    """Yield one line for each mistake between settings that depend on each other; the line names every variable
    concerned.
    """
    if bool(settings.tls_cert) != bool(settings.tls_key):
        yield "TLS_CERT and TLS_KEY: set both to serve HTTPS, or neither"
    admin = settings.admin_addr
    # The admin address replays and deletes dead letters, so nobody else may reach it without a key.
    if admin is not None and not admin.is_loopback and not settings.admin_keys:
        yield f"ADMIN_ADDR={str(admin)!r}: set ADMIN_KEYS, for others can reach it, or listen on 127.0.0.1"
    if admin is not None and admin.collides(settings.http_addr):
        both = f"HTTP_ADDR={str(settings.http_addr)!r} and ADMIN_ADDR={str(admin)!r}"
        yield f"{both} are the same address: choose another port"
    if settings.durability == "postgres" and not settings.db_dsn:
        yield "DURABILITY='postgres': set DB_DSN, the journal's database, or choose disk or memory"
    if settings.durability != "memory" and settings.max_body_bytes > MOST_JOURNALED_BODY:
        yield (
            f"MAX_BODY_BYTES={settings.max_body_bytes}: a request may be one record of the journal, so at most "
            f"{MOST_JOURNALED_BODY} (128MiB) can be taken with DURABILITY={settings.durability}"
        )
    if len(set(settings.sinks)) != len(settings.sinks):
        yield f"SINKS={','.join(settings.sinks)!r}: a sink is named twice"
