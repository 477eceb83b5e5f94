"""``hermes help COMMAND``: prints the same page as ``hermes COMMAND --help``.

Invariant: a page is found through click's own groups, so a new command needs no change here.
"""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem

from hermes.console.manual import Manual, ManualCommand


def _complete(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    typed: tuple[str, ...] = ctx.params.get("command") or ()
    ctx = ctx.find_root()
    for word in typed:
        found = ctx.command.get_command(ctx, word) if isinstance(ctx.command, click.Group) else None
        if found is None:
            # A completion never prints an error into the command line: a mistyped word is offered nothing.
            return []
        ctx = click.Context(found, parent=ctx, info_name=word)
    # Options are no part of the name of a page.
    return [item for item in ctx.command.shell_complete(ctx, incomplete) if not item.value.startswith("-")]


@click.command(
    "help",
    cls=ManualCommand,
    manual=Manual(
        examples=(
            ("All commands:", "hermes help"),
            ("One command:", "hermes help dlq replay"),
            ("Page by page:", "hermes help load | less"),
        ),
        exits={0: "Done.", 2: "There is no such command."},
        see_also=("hermes completion",),
    ),
)
@click.argument("command", nargs=-1, metavar="[COMMAND]...", shell_complete=_complete)
@click.pass_context
def help_command(ctx: click.Context, command: tuple[str, ...]) -> None:
    """Show the page of a command.

    Without a COMMAND: the page of hermes itself.
    """
    ctx = ctx.find_root()
    for word in command:
        group = ctx.command
        if not isinstance(group, click.Group):
            # With the command's context, so that the line begins with the name of the command.
            raise click.UsageError(f"it has no commands under it, so no {word!r}", ctx)
        found = group.get_command(ctx, word)
        if found is None:
            raise click.exceptions.NoSuchCommand(word, ctx=ctx)
        # resilient_parsing: the arguments that the command needs are missing here.
        ctx = found.make_context(word, [], parent=ctx, resilient_parsing=True)
    click.echo(ctx.get_help(), color=ctx.color)
