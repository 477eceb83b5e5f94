"""The program ``hermes``: its commands, found when they are asked for, and how each of its runs ends.

Invariants: a list of the commands imports none of them, so help and completion are quick; whatever was wrong with the
command line is one line on stderr; a reader that went away and Ctrl-C are silent. ``hermes.cli`` declares the commands.
"""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem, shell_complete

from hermes.cli.manual import ManualCommand, ManualGroup, write_list
from hermes.cli.mistakes import explain

INTERRUPTED = 130
"""The exit code after Ctrl-C: 128 + SIGINT, as shells have it."""

NO_READER = 141
"""The exit code where nobody reads what is written, as in ``hermes dlq list | head -1``: 128 + SIGPIPE."""

COMPLETE_VARIABLE = "_HERMES_COMPLETE"
_STDOUT = 1
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Entry:
    """A command by its name: ``module:attribute`` and its summary, which is that of the command itself."""

    name: str
    place: str
    summary: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.place.partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


class Program(ManualGroup):
    """The commands under the headings that say what one does with them. It is ``hermes``, however it is called."""

    def __init__(
        self,
        *args: Any,
        entries: dict[str, Sequence[Entry]],
        others: Callable[[], Iterable[tuple[str, Entry]]] = tuple,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._own = entries
        self._find_others = others

    @cached_property
    def _sections(self) -> dict[str, list[Entry]]:
        """Every command by its heading. The commands of other distributions are looked for once."""
        sections = {heading: list(entries) for heading, entries in self._own.items()}
        for heading, entry in self._find_others():
            sections.setdefault(heading, []).append(entry)
        return sections

    @cached_property
    def _entries(self) -> dict[str, Entry]:
        return {entry.name: entry for section in self._sections.values() for entry in section}

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """The names, those that people use first before the others."""
        return list(self._entries)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command, imported now, or None."""
        own = (entry for section in self._own.values() for entry in section)
        entry = next((entry for entry in own if entry.name == cmd_name), None) or self._entries.get(cmd_name)
        return None if entry is None else entry.load()

    def pages(self) -> Iterator[tuple[str, ManualCommand]]:
        """Every command, each imported."""
        loaded = ((name, entry.load()) for name, entry in self._entries.items())
        return ((name, command) for name, command in loaded if isinstance(command, ManualCommand))

    def write_commands(self, formatter: click.HelpFormatter) -> None:
        """The commands under their headings."""
        width = max(map(len, self._entries))
        for heading, entries in self._sections.items():
            write_list(formatter, heading, ((entry.name.ljust(width), entry.summary) for entry in entries))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Commands by their entries, and the options."""
        found = [
            CompletionItem(entry.name, help=entry.summary)
            for entry in self._entries.values()
            if entry.name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def main(
        self, args: Iterable[str] | None = None, *_ignored: Any, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        """Run the command line and end the process; the constants above are the codes that are not a command's own."""
        arguments = list(sys.argv[1:] if args is None else args)
        extra.pop("prog_name", None)
        if not standalone_mode:
            return super().main(arguments, prog_name="hermes", standalone_mode=False, **extra)
        if instruction := os.environ.get(COMPLETE_VARIABLE):
            sys.exit(shell_complete(self, extra, "hermes", COMPLETE_VARIABLE, instruction))
        code = 0
        try:
            code = self._run(arguments, extra)
        except* KeyboardInterrupt:
            code = INTERRUPTED
        except* BrokenPipeError:
            if not _reader_is_gone():
                raise  # it was another pipe that broke
            _drop_output()
            code = NO_READER
        except* OSError as group:
            full = group.subgroup(lambda error: isinstance(error, OSError) and error.errno in _NO_ROOM)
            if full is None:
                raise
            click.echo("hermes: what was to be written has no room: the disk is full, or the quota", err=True)
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
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            return error.exit_code
        except click.ClickException as error:
            click.echo(f"hermes: {explain(error)}", err=True)
            return error.exit_code
        except click.Abort as abort:
            # A question that was not answered with yes: with Ctrl-C, or else.
            if isinstance(abort.__context__, KeyboardInterrupt):
                return INTERRUPTED
            click.echo("hermes: nothing was done", err=True)
            return 1
        return 0


def _reader_is_gone() -> bool:
    """Whether stdout is a pipe or a socket that nobody reads any more."""
    poll = select.poll()
    poll.register(_STDOUT, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _drop_output() -> None:
    """Discard the buffered output: the interpreter would write it again as it ends, and print an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, _STDOUT)
    os.close(nowhere)
