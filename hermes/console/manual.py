"""Lays out the help of a command as a page of a manual, with fixed sections, at 80 columns.

A page is made of the command's docstring (its first paragraph is the summary), its options, and a `Manual`.

Invariant: a test checks every statement of a page: every command has examples that parse, and exit codes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from inspect import cleandoc
from textwrap import indent
from typing import Any

import click

# Some terminals are wider, but lines of more than 80 columns are hard to read.
WIDTH = 80
# The widest left column of a list, mostly options; a longer term gets a line of its own.
_TERM_WIDTH = 28


@dataclass(frozen=True)
class Manual:
    """The parts of a page beside the docstring and the options.

    ``examples``: pairs of a purpose and a command line. ``exits``: each exit code and its meaning. ``environment`` and
    ``files``: names with their meaning. ``see_also``: commands, or places in the documentation.

    >>> manual = Manual(examples=[("Show all:", "hermes sinks")], exits={0: "Done."}, see_also=["hermes serve"])
    >>> manual.exits[0]
    'Done.'
    """

    examples: Sequence[tuple[str, str]]
    exits: Mapping[int, str]
    environment: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    see_also: Sequence[str] = ()


class _Formatter(click.HelpFormatter):
    def write_heading(self, heading: str) -> None:
        self.write(click.style(heading, bold=True) + "\n")


class _Context(click.Context):
    formatter_class = _Formatter

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The convention of no-color.org, which click does not follow.
        if os.environ.get("NO_COLOR"):
            self.color = False


def write_list(formatter: click.HelpFormatter, heading: str, rows: Iterable[tuple[str, str]]) -> None:
    """Write a section of terms and their meaning; write nothing if there are no rows.

    >>> formatter = click.HelpFormatter(width=40)
    >>> write_list(formatter, "FILES", [("hermes-data/", "Everything on disk.")])
    >>> print(formatter.getvalue(), end="")
    FILES:
      hermes-data/  Everything on disk.
    """
    rows = list(rows)
    if rows:
        with formatter.section(heading):
            formatter.write_dl(rows, col_max=_TERM_WIDTH)


class ManualCommand(click.Command):
    """A command whose help is a page of a manual.

    ::

        @click.command("sinks", cls=ManualCommand, manual=Manual(examples=[...], exits={0: "Done."}))
        def list_sinks() -> None: ...
    """

    context_class = _Context

    def __init__(self, *args: Any, manual: Manual, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.manual = manual

    @property
    def summary(self) -> str:
        """The first paragraph of the docstring: one line about the purpose of the command."""
        return " ".join(cleandoc(self.help or "").partition("\n\n")[0].split())

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments. Every error about them carries its context, so that its line can name the command."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            # click leaves the context of some errors empty.
            error.ctx = error.ctx or ctx
            raise

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the page."""
        manual = self.manual
        # The names of the sections are those of man pages (man-pages(7)).
        with formatter.section("NAME"):
            formatter.write_text(f"{ctx.command_path} - {self.summary}")
        with formatter.section("SYNOPSIS"):
            formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)), prefix="  ")
        if description := cleandoc(self.help or "").partition("\n\n")[2]:
            with formatter.section("DESCRIPTION"):
                formatter.write_text(description)
        self.write_commands(formatter)
        # Arguments are left out: the synopsis names them, and the description explains them.
        options = (each for each in self.get_params(ctx) if isinstance(each, click.Option))
        records = (option.get_help_record(ctx) for option in options)
        write_list(formatter, "OPTIONS", filter(None, records))
        write_list(formatter, "ENVIRONMENT", manual.environment.items())
        write_list(formatter, "FILES", manual.files.items())
        with formatter.section("EXAMPLES"):
            for purpose, line in manual.examples:
                formatter.write_text(purpose)
                formatter.write(indent(line, " " * 6) + "\n")
        write_list(formatter, "EXIT STATUS", ((str(code), words) for code, words in sorted(manual.exits.items())))
        if manual.see_also:
            with formatter.section("SEE ALSO"):
                formatter.write_text(", ".join(manual.see_also))

    def write_commands(self, formatter: click.HelpFormatter) -> None:
        """Write no section: this command has no subcommands."""


class ManualGroup(ManualCommand, click.Group):
    """A group of commands whose help is a page of a manual."""

    command_class = ManualCommand

    def write_commands(self, formatter: click.HelpFormatter) -> None:
        """Write the commands of the group, in the order of their declaration, each with its summary."""
        write_list(formatter, "COMMANDS", ((name, command.summary) for name, command in self.pages()))

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names in the order of their declaration, from the harmless to the dangerous."""
        return list(self.commands)

    def pages(self) -> Iterable[tuple[str, ManualCommand]]:
        """Return every command of the group that has a page, with its name."""
        return ((name, command) for name, command in self.commands.items() if isinstance(command, ManualCommand))
