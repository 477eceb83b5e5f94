"""What a benchmark says: one row of the table, with its target, as text for people and as numbers for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

NO_TARGET = "for information"


@dataclass(frozen=True)
class Row:
    """``score`` is the measured figure over its target: 1 or more is reached; None where there is no target.

    ``detail`` holds what the figure was made of. ``compared``: the row sets Hermes beside another way to do the same.
    """

    what: str
    measured: str
    target: str
    score: float | None
    detail: dict[str, Any] = field(default_factory=dict)
    compared: bool = False

    @property
    def reached(self) -> bool | None:
        return None if self.score is None else self.score >= 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"reached": self.reached}
