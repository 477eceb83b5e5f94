"""Declares the settings of the dead letters."""

from __future__ import annotations

from typing import Annotated

import msgspec

from hermes.config import about


class DeadLetterSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How many dead letters are kept.

    >>> DeadLetterSettings(dead_letters=10).dead_letters
    10
    """

    dead_letters: Annotated[int, about("rejected events that are kept; the oldest makes room", ge=0)] = 100_000
