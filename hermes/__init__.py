"""Hermes: takes events in over HTTP, keeps them safe and delivers them to sinks.

The names in ``__all__`` are the public interface, for plugins and for programs that embed a part of Hermes.
"""

from hermes.base.dispatch import Dispatcher, PayloadTooLarge, QueueFull, ShuttingDown, Stopped
from hermes.base.errors import (
    BatchRejected,
    ConfigError,
    HermesError,
    LogDamaged,
    LogFull,
    LogUnavailable,
    PluginError,
    SinkUnavailable,
    StaleWriter,
)
from hermes.events.event import Batch, Chunk, Event
from hermes.events.sink import DeliverySettings, Sink, SinkPlugin
from hermes.observe.traced_request import trace_headers
from hermes.store.settings import Storage

# The same name twice re-exports the name for type checkers (PEP 484), for ``__all__`` lists the interface alone.
from hermes.version import __version__ as __version__

__all__ = [
    "Batch",
    "BatchRejected",
    "Chunk",
    "ConfigError",
    "DeliverySettings",
    "Dispatcher",
    "Event",
    "HermesError",
    "LogDamaged",
    "LogFull",
    "LogUnavailable",
    "PayloadTooLarge",
    "PluginError",
    "QueueFull",
    "ShuttingDown",
    "Sink",
    "SinkPlugin",
    "SinkUnavailable",
    "StaleWriter",
    "Stopped",
    "Storage",
    "trace_headers",
]
