"""The program ``hermes``: imports a command when the command is run, and ends each run.

Invariants: a list of the commands imports none of them, so help and completion are quick; an error of the command line
is one line on stderr; the end of a reader and Ctrl-C print nothing.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache, cached_property
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete

from hermes.console.manual import ManualCommand, ManualGroup, write_list
from hermes.console.mistakes import explain
from hermes.part import Command

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, the convention of shells."""

NO_READER = 141
"""The exit code after the reader of the output has ended, as in ``hermes dlq list | head -1``: 128 + SIGPIPE."""

COMPLETE_VARIABLE = "_HERMES_COMPLETE"
_STDOUT = 1
# The disk is full, or the user's quota is: the operator can act, so it is no traceback.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


class Program(ManualGroup):
    """The commands under their headings. The program is called ``hermes``, whatever name started the process."""

    def __init__(self, *args: Any, finders: Sequence[Callable[[], Iterable[Command]]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Each finder is asked once, and only if those before it do not know the name: the last one reads the entry
        # points of every installed distribution.
        self._finders = [cache(finder) for finder in finders]

    @cached_property
    def _sections(self) -> dict[str, list[Command]]:
        """Every command by heading."""
        sections: dict[str, list[Command]] = {}
        for finder in self._finders:
            for command in finder():
                sections.setdefault(command.heading, []).append(command)
        return sections

    @cached_property
    def _commands(self) -> dict[str, Command]:
        return {command.name: command for section in self._sections.values() for command in section}

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the names; the commands that people use first stand first."""
        return list(self._commands)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, imported now, or None."""
        for finder in self._finders:
            for command in finder():
                if command.name == cmd_name:
                    return _load(command)
        return None

    def pages(self) -> Iterator[tuple[str, ManualCommand]]:
        """Return every command, each imported."""
        loaded = ((name, _load(command)) for name, command in self._commands.items())
        return ((name, command) for name, command in loaded if isinstance(command, ManualCommand))

    def write_commands(self, formatter: click.HelpFormatter) -> None:
        """Write the commands under their headings."""
        # One width for all sections, so that the summaries of the page are aligned.
        width = max(map(len, self._commands))
        for heading, commands in self._sections.items():
            write_list(formatter, heading, ((each.name.ljust(width), each.summary) for each in commands))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the commands by their declarations, and the options."""
        found = [
            CompletionItem(command.name, help=command.summary)
            for command in self._commands.values()
            if command.name.startswith(incomplete)
        ]
        # Not the group's own method, which would import every command for its help.
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def main(
        self, args: Iterable[str] | None = None, *_ignored: Any, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command line and end the process. The constants above are the exit codes beside the commands' own."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra.pop("prog_name", None)
        # The caller, such as a test, wants the result and not the end of the process.
        if not standalone_mode:
            return super().main(arguments, prog_name="hermes", standalone_mode=False, **extra)
        # Completion runs before the arguments are parsed, because the line is incomplete.
        if instruction := os.environ.get(COMPLETE_VARIABLE):
            sys.exit(shell_complete(self, extra, "hermes", COMPLETE_VARIABLE, instruction))
        code = 0
        try:
            code = self._run(arguments, extra)
        # A nursery wraps an exception in a group, so `except*` throughout.
        except* KeyboardInterrupt:
            code = INTERRUPTED
        # Before OSError, its base class: the end of a reader is no fault of the disk.
        except* BrokenPipeError:
            if not _reader_is_gone():
                # Another pipe broke, such as the connection to a server.
                raise
            _drop_output()
            code = NO_READER
        except* OSError as group:
            full = group.subgroup(lambda error: isinstance(error, OSError) and error.errno in _NO_ROOM)
            if full is None:
                raise
            click.echo("hermes: the output cannot be written: the disk is full, or the quota is used up", err=True)
            _drop_output()
            code = 1
        # Not inside except*: Python 3.11.2, Debian 12's, would wrap the exit in a group.
        sys.exit(code)

    def _run(self, arguments: list[str], extra: dict[str, Any]) -> int:
        try:
            with self.make_context("hermes", arguments, **extra) as ctx:
                self.invoke(ctx)
        except click.exceptions.Exit as end:
            return end.exit_code
        # Before its base class: the message is a whole page, and `explain` would make one line of the page.
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:
            click.echo(f"hermes: {explain(error)}", err=True)
            return error.exit_code
        except click.Abort as abort:
            # The operator did not answer a question with yes, or pressed Ctrl-C.
            if isinstance(abort.__context__, KeyboardInterrupt):
                return INTERRUPTED
            click.echo("hermes: nothing was done", err=True)
            return 1
        return 0


def _load(command: Command) -> click.Command:
    loaded: click.Command = command.load()
    return loaded


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe or a socket without a reader."""
    poll = select.poll()
    # No events asked for: POLLERR and POLLHUP are always reported.
    poll.register(_STDOUT, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _drop_output() -> None:
    """Discard the buffered output."""
    # Otherwise the interpreter writes the output again as it ends, and prints an error.
    nowhere = os.open(os.devnull, os.O_WRONLY)
    # The descriptor is replaced, because Python's buffer of stdout writes to its number.
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)
