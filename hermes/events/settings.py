"""Declares the settings of the events: the queue, the batches, the sinks, the journal, the types that are taken."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec

from hermes.base.errors import ConfigError
from hermes.config import Duration, Mistakes, Names, Size, about, try_read
from hermes.config.notation import EventTypes
from hermes.store.settings import Storage


class EventSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the part `events` takes, keeps and delivers. Sizes are in bytes, durations in seconds.

    >>> EventSettings(queue_size=10).flush_interval
    0.1
    """

    # The other bound on the queue is QUEUE_BYTES: small events fill it by their number, large ones by their bytes.
    queue_size: Annotated[int, about("capacity of the bounded queue, in events", ge=1)] = 100_000
    # Workers wait for a sink most of the time, so several to a processor. The bound of 4096 keeps a mistyped number
    # from starting as many tasks.
    # `os.cpu_count` returns None if the system does not tell the number.
    worker_count: Annotated[
        int, about("workers: the most batches in flight at one sink", default="CPUs × 4", ge=1, le=4096)
    ] = msgspec.field(default_factory=lambda: 4 * (os.cpu_count() or 1))
    batch_size: Annotated[int, about("a buffer that reaches this many events is flushed", ge=1)] = 1000
    flush_interval: Annotated[Duration, about("longest a non-empty buffer waits", gt=0)] = 0.1
    backpressure_mode: Annotated[
        Literal["strict", "block"],
        about("when the queue is full: `strict` answers 503 at once, `block` holds the request until there is room"),
    ] = "strict"
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
    # `seconds` by default: milliseconds that a client sends by mistake should be an error, and not a time.
    event_times: Annotated[
        Literal["seconds", "any"],
        about(
            "how an event's `timestamp` may be written: whole Unix `seconds`; `any`: also Unix milliseconds (a number "
            "above 253402300799), numbers with a fraction, and RFC 3339 text, each rounded down to seconds"
        ),
    ] = "seconds"
    aggregate_minutes: Annotated[int, about("minutes of counts that /aggregates keeps", ge=1)] = 1440
    aggregate_flush_interval: Annotated[
        Duration, about("how often the counts are sent to the sinks as events; 0: never", ge=0)
    ] = 0.0

    def sink_names(self, storage: Storage) -> tuple[str, ...]:
        """Return the names of the sinks to run, from SINKS or from the default that DB_DSN implies.

        >>> EventSettings().sink_names(Storage(db_dsn="postgresql://localhost/events"))
        ('postgres',)
        """
        return self.sinks or (("postgres",) if storage.db_dsn else ("null",))


class EngineSettings(EventSettings, frozen=True, kw_only=True):
    """The settings of the events, with the bounds on bodies, which are the same for every part.

    >>> EngineSettings(queue_size=10, max_body_bytes=2**20).queue_bytes
    268435456
    """

    queue_bytes: int = 256 * 2**20
    max_body_bytes: int = 10 * 2**20


def collect_event_settings(environ: Mapping[str, str], mistakes: Mistakes) -> EventSettings:
    """Return the settings of the events, with ``mistakes`` collected: the default stands for a bad value."""
    settings = try_read(EventSettings, environ, mistakes) or EventSettings()
    # Both would have one name, by which the journal keeps the position of a sink.
    if len(set(settings.sinks)) != len(settings.sinks):
        with mistakes.collect():
            raise ConfigError(f"SINKS={','.join(settings.sinks)!r}: a sink is named twice")
    return settings
