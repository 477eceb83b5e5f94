"""The command line ``hermes``: its own commands and those of the parts, each under a heading that names its purpose.

- ``serve``, ``config``, ``top``, ``tap``, ``dlq``, ``log``, ``load``, ``broker``: one command or group each
- ``dlq_names``, ``dlq_replay``, ``dlq_store``, ``dlq_view``, ``reload``: pieces of ``dlq`` and ``serve``

Invariant: a mistake of the operator is one line on stderr and exit code 2; a traceback is a bug of Hermes. A command is
imported when somebody asks for it.
"""

from __future__ import annotations

from collections.abc import Iterable

import click

from hermes.base.errors import PluginError
from hermes.console.manual import WIDTH, Manual
from hermes.console.program import INTERRUPTED, NO_READER, Program
from hermes.part import Command
from hermes.parts import built_in_commands, commands_of_others
from hermes.version import __version__

# Names and summaries stand here, so that a list of the commands imports none of them; a test compares the summaries.
_OWN = (
    Command("RUN IT", "serve", "hermes.cli.serve:serve_command", "Run the service until SIGTERM, SIGINT or SIGQUIT."),
    Command("RUN IT", "config", "hermes.cli.config:config", "Check the settings, or have one explained."),
    Command("LOOK INTO IT", "top", "hermes.cli.top:top", "Watch a running Hermes: rates, queue, sinks and their lag."),
    Command(
        "MEND IT",
        "log",
        "hermes.cli.log:log_commands",
        "Look at the journal on this machine's disk, check it, or repair it.",
    ),
    Command("TRY IT", "load", "hermes.cli.load:load", "POST generated events and report rate, latency and codes."),
    Command("LEARN IT", "help", "hermes.console.help:help_command", "Show the page of a command."),
    Command(
        "LEARN IT",
        "completion",
        "hermes.console.completion:completion",
        "Print the script that completes commands in a shell.",
    ),
)

# On two lines, so that the page stays within 80 columns.
_CURL = r"""
curl localhost:8080/events -d \
  '{"id":"1","user_id":"me","type":"song_played","timestamp":1700000000}'
""".strip()

_MANUAL = Manual(
    examples=(
        ("Keep events in a file of SQLite, ./hermes-data/events.db:", "SINKS=sqlite hermes serve"),
        (
            "Send it an event, from another terminal:",
            _CURL,
        ),
        ("Check the settings before a start:", "hermes config check"),
        ("See what a database would not take, and why:", "hermes dlq list --sink postgres"),
        ("Complete commands in this bash:", "source <(hermes completion bash)"),
    ),
    exits={
        0: "Done.",
        1: "It was tried and did not work: a server or a disk that fails, events that could not be delivered.",
        2: "A mistake in a setting or on the command line. One line on stderr says what to mend; nothing was done.",
        INTERRUPTED: "Ended by Ctrl-C.",
        NO_READER: "Nobody reads the output any more.",
    },
    environment={
        "HTTP_ADDR": "Where it listens for events; :8080 unless told.",
        "ADMIN_ADDR": "Where operators are answered; 127.0.0.1:8081 unless told.",
        "EVENT_TYPES": "Comma list of the types of events that are taken, or * for any; four samples unless told.",
        "SINKS": "Comma list of sinks that get every event; `hermes sinks` lists them.",
        "DB_DSN": "Postgres; with it the default sink is postgres.",
        "DURABILITY": "What a 202 promises: disk (unless told), postgres or memory.",
        "HERMES_DATA_DIR": "Everything that is kept on disk; ./hermes-data unless told.",
        "API_KEYS": "Comma list of keys that may post events; unset: open to all.",
        "NAME_FILE": "For any variable NAME: the path of a file that holds the value.",
        "NO_COLOR": "If it is set, no colours and no bold text.",
    },
    files={
        "hermes-data/journal/": "Accepted events, until every sink has them.",
        "hermes-data/dead-letters.db": "Events that a sink refused for good.",
        "hermes-data/events.db": "The rows of the sink sqlite.",
    },
    see_also=("hermes help COMMAND", "hermes config explain"),
)


def _commands_of_others() -> Iterable[Command]:
    """The commands of parts from other distributions."""
    try:
        return commands_of_others()
    # A broken package must not take the other commands away.
    except PluginError as error:
        click.echo(f"hermes: {error}", err=True)
        return ()


@click.group(
    cls=Program,
    name="hermes",
    manual=_MANUAL,
    # In this order: the first one that knows a name wins, so that no package takes the place of a command of Hermes.
    finders=(lambda: _OWN, built_in_commands, _commands_of_others),
    subcommand_metavar="COMMAND [OPTIONS] [ARGUMENTS]...",
    options_metavar="",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": WIDTH},
)
@click.version_option(__version__, prog_name="hermes")
def main() -> None:
    """Take events in over HTTP, keep them safe, and deliver them to sinks.

    The first examples below start a service, send an event, and show the result.

    All settings are variables of the environment, or keys of hermes.toml. `hermes config check` prints the settings
    that are set, with their values, `hermes config explain NAME` says what a setting means.
    """
