"""What a benchmark says: one row of the table, with its target, as text for people and as numbers for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Row:
    """``score`` is the measured figure over its target: 1 or more is reached. ``detail`` holds what it was made of."""

    what: str
    measured: str
    target: str
    score: float
    detail: dict[str, Any] = field(default_factory=dict)

    @property
    def reached(self) -> bool:
        return self.score >= 1

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"reached": self.reached}
