"""The command line: ``hermes serve``, ``sinks``, ``config check``, ``dlq``, ``log``, ``top``, ``tap`` and ``load``.

Invariant: what an operator did wrong is one line on stderr and exit code 2; a traceback is a bug of ours. One file a
command; ``operator`` has what they share.
"""

from __future__ import annotations

import click

from hermes import __version__
from hermes.cli.dlq import dlq_commands
from hermes.cli.log import log_commands
from hermes.cli.serve import serve_command
from hermes.cli.settings import config, list_sinks
from hermes.cli.tap import tap
from hermes.cli.top import top
from hermes.load.command import load


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="hermes")
def main() -> None:
    """Hermes takes events in over HTTP, keeps them safe and delivers them to sinks.

    Settings are variables of the environment; `hermes config check` lists them with their values.
    """


for command in (serve_command, list_sinks, config, dlq_commands, log_commands, top, tap, load):
    main.add_command(command)
