"""Declares the broker as a part of the service.

Invariant: nothing here imports the machine or the server, so that a list of the commands is quick.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from hermes.broker.settings import BrokerSettings, check
from hermes.part import Command, Part, RunningPart

if TYPE_CHECKING:
    from hermes.core import Core
    from hermes.dead_letters.view import LetterView


def _open(settings: BrokerSettings, core: Core) -> AbstractAsyncContextManager[RunningPart]:
    # Here: the machine and the server are not imported for a list of the commands.
    from hermes.broker.running import open_running

    return open_running(settings, core)


def _letters() -> LetterView:
    from hermes.broker.letters import VIEW

    return VIEW


BROKER = Part(
    "broker",
    "Keeps messages in topics, and leases them to groups, for clients over TCP and HTTP",
    _open,
    settings=BrokerSettings,
    check=lambda settings, _service: check(settings),
    needs=("dead_letters",),
    letters=_letters,
    commands=(
        Command(
            "LOOK INTO IT",
            "broker",
            "hermes.cli.broker:broker_commands",
            "Look at topics and groups of the broker, and say why one gets nothing.",
        ),
    ),
)
