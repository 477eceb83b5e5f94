"""Declares the settings of the log lines."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from hermes.config import about


class LogSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Which log lines are written, and in which form.

    >>> LogSettings(log_format="json").log_level
    'info'
    """

    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], about("least important log line that is written")
    ] = "info"
    log_format: Annotated[Literal["auto", "console", "json"], about("`auto`: `console` on a terminal, else `json`")] = (
        "auto"
    )
