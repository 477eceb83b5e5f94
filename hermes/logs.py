"""Log lines: structlog over the standard library, so that Quart's and Hypercorn's lines look like ours.

One JSON object a line on stderr, or a console format on a terminal; stdout belongs to the sink of that name. Configured
once, by the command line.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def log_style(style: str) -> str:
    """``console`` or ``json``: what ``auto`` means here."""
    if style == "auto":
        return "console" if sys.stderr.isatty() else "json"
    return style


def configure_logs(level: str, style: str) -> None:
    """Write log lines of ``level`` and above to stderr; ``style`` is ``console``, ``json`` or ``auto``."""
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderer: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(colors=colours)]
        if log_style(style) == "console"
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    # Hypercorn logs at INFO what the exit log says better.
    logging.getLogger("hypercorn.error").setLevel(logging.ERROR)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
