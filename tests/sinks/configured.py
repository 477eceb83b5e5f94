"""Sinks configured from an environment as the service does it, with all mistakes raised at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from hermes.config import Mistakes
from hermes.events.configured_sinks import ConfiguredSink, collect_sinks


def configure_sinks(names: Iterable[str], environ: Mapping[str, str]) -> list[ConfiguredSink]:
    """The sinks of these names with their settings. Raises `ConfigError` for all that is wrong with them."""
    mistakes = Mistakes()
    sinks = collect_sinks(names, environ, mistakes)
    mistakes.raise_any()
    return sinks
