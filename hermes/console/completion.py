"""``hermes completion SHELL``: prints the script that lets a shell complete commands, options and their values.

Invariant: the script never goes out of date, because the shell asks ``hermes`` itself for every completion. click
writes the script and answers the shell.
"""

from __future__ import annotations

import sys

import click
from click.shell_completion import BashComplete, FishComplete, ZshComplete

from hermes.console.manual import Manual, ManualCommand
from hermes.console.program import COMPLETE_VARIABLE

_SHELLS = {
    "bash": (BashComplete, "~/.local/share/bash-completion/completions/hermes"),
    "zsh": (ZshComplete, "a folder of $fpath, as _hermes"),
    "fish": (FishComplete, "~/.config/fish/completions/hermes.fish"),
}


@click.command(
    "completion",
    cls=ManualCommand,
    manual=Manual(
        examples=(
            ("Complete in this bash, from now on until it ends:", "source <(hermes completion bash)"),
            (
                "In every bash to come:",
                "hermes completion bash > ~/.local/share/bash-completion/completions/hermes",
            ),
            ("In every zsh to come, where ~/.zfunc is in $fpath:", "hermes completion zsh > ~/.zfunc/_hermes"),
            ("In every fish to come:", "hermes completion fish > ~/.config/fish/completions/hermes.fish"),
        ),
        exits={0: "Done.", 2: "SHELL is another shell."},
        see_also=("hermes help",),
    ),
)
@click.argument("shell", type=click.Choice(list(_SHELLS)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that completes commands in a shell.

    SHELL is bash (4.4 or later), zsh or fish. The script goes to stdout; on a terminal, a line on stderr says where to
    keep the script. It completes commands, options, sinks, event types and the names of settings.
    """
    # The place is advice for this shell; each shell looks elsewhere.
    write, place = _SHELLS[shell]
    # click's script ends in a line feed of its own.
    click.echo(write(ctx.find_root().command, {}, "hermes", COMPLETE_VARIABLE).source(), nl=False)
    # The advice would be in the way where the shell reads the script.
    if _is_terminal():
        click.echo(f"hermes: keep this in {place}; `hermes completion --help` has the commands", err=True)


def _is_terminal() -> bool:
    return sys.stdout.isatty()
