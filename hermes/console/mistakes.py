"""Words the error for a wrong command line: one line with the mistake and its correction. Pure.

click finds the mistake. This module rewrites click's message and suggests the closest name; if nothing is close, the
line names the help page or an example.

Invariant: every error is one line.
"""

from __future__ import annotations

import re

import click

from hermes.base.spelling import close_words
from hermes.console.manual import ManualCommand
from hermes.console.operator import one_line


def explain(error: click.ClickException) -> str:
    """Return the mistake and its correction on one line, without the leading ``hermes:``."""
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    if ctx is None:
        return one_line(error.format_message())
    if isinstance(error, click.exceptions.NoSuchCommand) and isinstance(ctx.command, click.Group):
        return _no_such_command(error.command_name, ctx, ctx.command)
    # Without the name of the program, which the line begins with.
    path = ctx.command_path.partition(" ")[2]
    return one_line(f"{path}: {_in_our_words(error, ctx)}" if path else _in_our_words(error, ctx))


def _no_such_command(name: str, ctx: click.Context, group: click.Group) -> str:
    before = "".join(f"{part} " for part in ctx.command_path.split()[1:])
    # A misspelt name first; the same name one level down is the second guess.
    close = close_words(name, group.list_commands(ctx)) or _one_level_down(name, ctx, group)
    if close:
        mend = f"did you mean {' or '.join(before + other for other in close)}?"
    else:
        mend = f"`{ctx.command_path} --help` lists the commands"
    return f"no such command {before + name!r}: {mend}"


def _one_level_down(name: str, ctx: click.Context, group: click.Group) -> list[str]:
    """Return the commands of this name in the groups of this group: ``dlq replay`` for ``replay``."""
    below = ((path, group.get_command(ctx, path)) for path in group.list_commands(ctx))
    return [f"{path} {name}" for path, other in below if isinstance(other, click.Group) and name in other.commands]


def _in_our_words(error: click.ClickException, ctx: click.Context) -> str:
    help_line = f"`{ctx.command_path} --help`"
    # From the special to the general: a MissingParameter is a BadParameter too.
    match error:
        case click.exceptions.NoSuchOption():
            parameters = ctx.command.get_params(ctx)
            options = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
            # A short option has one letter; every other letter would be close.
            close = close_words(error.option_name, filter(_is_long, options)) if _is_long(error.option_name) else []
            mend = f"did you mean {' or '.join(close)}?" if close else f"{help_line} lists the options"
            return f"no such option {error.option_name}: {mend}"
        case click.exceptions.MissingParameter(param=click.Parameter() as parameter):
            return f"{_hint(parameter)} is missing: {_example(ctx) or help_line + ' says what it is'}"
        case click.exceptions.BadParameter(param=click.Parameter() as parameter):
            return f"{_hint(parameter)}: {_without_stop(error.message)}"
        case click.exceptions.BadOptionUsage():
            return f"{error.option_name}: {_bad_usage(error.message)}"
        case _:
            # click has no error class for this case, only the text.
            if extra := re.search(r"unexpected extra arguments? \((.*)\)", error.message):
                return f"it takes no {extra[1]!r}: {help_line} says what it takes"
            return _without_stop(error.format_message())


def _is_long(option: str) -> bool:
    return option.startswith("--")


def _hint(parameter: click.Parameter) -> str:
    """Return the longest name of an option, or the name of an argument in the help."""
    return parameter.human_readable_name if isinstance(parameter, click.Argument) else max(parameter.opts, key=len)


def _example(ctx: click.Context) -> str:
    if isinstance(ctx.command, ManualCommand):
        return f"for example `{ctx.command.manual.examples[0][1]}`"
    return ""


def _bad_usage(message: str) -> str:
    # click has one class for both faults: only the text tells a missing value from one too many.
    if "requires" in message:
        return "a value is missing after it"
    return "it takes no value" if "does not take" in message else _without_stop(message)


def _without_stop(message: str) -> str:
    return message.removesuffix(".")
