"""Hermes: takes events in over HTTP, keeps them safe and delivers them to sinks.

What a plugin or a program that embeds a part of Hermes may import from here is its public interface.
"""

from hermes.errors import BatchRejected, ConfigError, HermesError, PluginError, SinkUnavailable
from hermes.event import Batch, Chunk, Event
from hermes.sink import Sink, SinkPlugin

__all__ = [
    "Batch",
    "BatchRejected",
    "Chunk",
    "ConfigError",
    "Event",
    "HermesError",
    "PluginError",
    "Sink",
    "SinkPlugin",
    "SinkUnavailable",
]

__version__ = "0.1.0"
