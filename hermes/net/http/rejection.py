"""`Rejection`: one item of a request that was refused, in the form of all answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass

MAX_REJECTIONS = 1000
"""The largest number of invalid items that an answer lists. With more, the whole request is refused."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One item of a request that was refused: its place in the request, from 0, and the reason."""

    index: int
    error: str
