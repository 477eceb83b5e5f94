"""Declares the dead letters as a part of the service.

Invariant: nothing here imports a store or an address, so that a list of the commands is quick.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING

from hermes.dead_letters.settings import DeadLetterSettings
from hermes.part import Command, Part, RunningPart

if TYPE_CHECKING:
    from hermes.core import Core


def _open(settings: DeadLetterSettings, core: Core) -> AbstractAsyncContextManager[RunningPart]:
    # Here: the stores and the addresses are not imported for a list of the commands.
    from hermes.dead_letters.opening import open_dead_letters

    return open_dead_letters(settings, core)


DEAD_LETTERS = Part(
    "dead_letters",
    "Keeps refused events, to be looked at and replayed",
    _open,
    settings=DeadLetterSettings,
    commands=(
        Command(
            "MEND IT",
            "dlq",
            "hermes.cli.dlq:dlq_commands",
            "Look at the events that a sink refused; replay or purge them.",
        ),
    ),
)
