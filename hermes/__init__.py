"""Hermes: takes events in over HTTP, keeps them safe and delivers them to sinks.

What a plugin or a program that embeds a part of Hermes may import from here is its public interface.
"""

from hermes.dispatch import Dispatcher, PayloadTooLarge, QueueFull, ShuttingDown, Stopped
from hermes.errors import (
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
from hermes.event import Batch, Chunk, Event
from hermes.sink import Sink, SinkPlugin
from hermes.storage import Storage
from hermes.traced import trace_headers

__all__ = [
    "Batch",
    "BatchRejected",
    "Chunk",
    "ConfigError",
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

__version__ = "0.1.0"
