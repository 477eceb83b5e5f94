"""Log lines: structlog over the standard library, so that the lines of libraries look like ours.

One JSON object a line on stderr, or a console format on a terminal; stdout belongs to the sink of that name. What
concerns one request has its ``request_id``, and its ``trace_id`` and ``span_id`` where it is traced: bound with
structlog's context variables by whoever serves it. Invariant: nothing that a line quotes can begin another line or
reach the terminal as a command; a traceback shows no values of variables. Configured once, by the command line.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

from hermes.words import printable

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


def escape(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A processor: what a terminal or a reader of lines would take for more than text is written as ``\\x1b``, ``\\n``.

    A traceback keeps its lines, indented, so that none of them looks like one of ours.
    """
    for key, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            if key == "exception":
                line[key] = "\n".join(f"    {printable(each)}" for each in value.split("\n"))
            else:
                line[key] = printable(value)
    return line


def configure_logs(level: str, style: str) -> None:
    """Write log lines of ``level`` and above to stderr; ``style`` is ``console``, ``json`` or ``auto``."""
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderer: list[structlog.typing.Processor] = (
        [
            escape,
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
        ]
        if log_style(style) == "console"
        else [structlog.processors.JSONRenderer()]  # which escapes by itself
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.format_exc_info,
                *renderer,
            ],
        )
    )
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
