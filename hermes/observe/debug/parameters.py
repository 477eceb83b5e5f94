"""Checks the query parameters of ``/debug/pprof/``: each has bounds, and an error names the accepted values.

Invariant: every value that is read here has been checked. Unknown parameters are ignored, because ``go tool pprof`` may
send its own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


class BadParameterError(ValueError):
    """A parameter of the query is not acceptable; the message is for the client."""


class Parameters:
    """A query, read parameter by parameter.

    >>> query = Parameters({"seconds": "5", "debug": "1"})
    >>> query.number("seconds", 30.0, 0.1, 120.0, "seconds")
    5.0
    >>> query.format(("pprof", "text"), ("pprof", "text"))
    'text'
    """

    def __init__(self, query: Mapping[str, str]) -> None:
        self._query = query

    def number(self, name: str, default: float, low: float, high: float, unit: str) -> float:
        """Return a number from ``low`` to ``high``, both included."""
        given = self._query.get(name)
        if given is None:
            return default
        try:
            number = float(given)
        except ValueError:
            # NaN fails the comparison below, as the text "nan" does.
            number = math.nan
        if not low <= number <= high:
            raise BadParameterError(f"{name}={_shown(given)}: must be a number from {low:g} to {high:g} ({unit})")
        return number

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """Return a whole number from ``low`` to ``high``, both included."""
        given = self._query.get(name, str(default))
        # The length is checked before int(), which takes quadratic time in the number of digits.
        if not (given.isascii() and given.isdigit() and len(given) <= 9 and low <= int(given) <= high):
            raise BadParameterError(f"{name}={_shown(given)}: must be a whole number from {low} to {high}")
        return int(given)

    def format(self, accepted: Sequence[str], levels: Sequence[str]) -> str:
        """Return the output format: ``format=`` one of ``accepted``, or Go's ``debug=N``, an index into ``levels``."""
        given = self._query.get("format")
        if given is None:
            return levels[self.whole("debug", 0, 0, len(levels) - 1)]
        if given not in accepted:
            raise BadParameterError(f"format={_shown(given)}: must be one of {', '.join(accepted)}")
        return given


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else value[:40] + "…")
