"""Writes log lines: structlog over the standard library, so that the lines of libraries have the same form.

A line is one JSON object on stderr, or console text on a terminal; stdout belongs to the sink of that name. A line
about one request has its ``request_id``, and its ``trace_id`` and ``span_id`` if the request is traced: the code that
serves the request binds them to structlog's context variables. The command line configures the logs once.

Invariant: no quoted text can begin another line or reach the terminal as a command; a traceback shows no values of
variables.
"""

from __future__ import annotations

import logging
import os
import sys

import structlog

from hermes.base.quoting import printable

# Lines of structlog and of the standard library pass through the same processors.
_SHARED: list[structlog.typing.Processor] = [
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
]


def log_style(style: str) -> str:
    """Return ``console`` or ``json``; decide ``auto`` by the terminal."""
    if style == "auto":
        return "console" if sys.stderr.isatty() else "json"
    return style


def escape(_logger: object, _method: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    r"""A processor that writes every character that a terminal or a reader of lines might obey as ``\x1b`` or ``\n``.

    A traceback keeps its lines, indented, so that no line of a traceback looks like a log line.

    >>> escape(None, "", {"event": "refused\nrefused"})
    {'event': 'refused\\nrefused'}
    """
    # Only values change, so the loop may go over the same dict.
    for key, value in line.items():
        if isinstance(value, str) and not value.isprintable():
            # The line feeds of a traceback are the renderer's own, so they stay.
            if key == "exception":
                line[key] = "\n".join(f"    {printable(each)}" for each in value.split("\n"))
            else:
                line[key] = printable(value)
    return line


def configure_logs(level: str, style: str) -> None:
    """Write log lines of ``level`` and above to stderr; ``style`` is ``console``, ``json`` or ``auto``."""
    # The convention of no-color.org: the variable counts if it is set, whatever its value.
    colours = sys.stderr.isatty() and "NO_COLOR" not in os.environ
    renderer: list[structlog.typing.Processor] = (
        [
            # Before the renderer: the codes of its own colours would be escaped too.
            escape,
            # The formatter is named, because the default one, of the library rich, shows the values of variables.
            structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
        ]
        if log_style(style) == "console"
        # JSON escapes control characters itself.
        else [structlog.processors.JSONRenderer()]
    )
    # Not stdout: the sink of that name writes events there.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            # For the lines of libraries alone: structlog's own have passed these processors already.
            foreign_pre_chain=_SHARED,
            processors=[
                # The formatter adds keys of its own, such as `_record`, which are no facts of a line.
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                # Before `escape`, which then sees the text of a traceback: an exception may quote anything.
                structlog.processors.format_exc_info,
                *renderer,
            ],
        )
    )
    # force: a library that was imported earlier may have installed a handler, whose lines would have another form.
    logging.basicConfig(handlers=[handler], level=level.upper(), force=True)
    structlog.configure(
        processors=[*_SHARED, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        # A line below the level returns at once, before any processor has run.
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=structlog.stdlib.LoggerFactory(),
        # A bound logger is made once for each module: a log line on a hot path costs no look-ups.
        cache_logger_on_first_use=True,
    )
