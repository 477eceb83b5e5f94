"""What the audit of the dependencies says: a flaw fails it, and no answer is never taken for a clean bill."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

judge = runpy.run_path(str(Path(__file__).resolve().parent.parent / "scripts" / "audit"))["judge"]

SOUND = {"name": "trio", "version": "0.30.0", "vulns": []}
FLAWED = {"name": "h11", "version": "0.14.0", "vulns": [{"id": "PYSEC-1", "fix_versions": ["0.16.0"]}]}
HOPELESS = {"name": "h2", "version": "4.0.0", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}
UNASKED = {"name": "click", "skip_reason": "Dependency not found"}


@pytest.mark.parametrize(
    ("dependencies", "code", "words"),
    [
        ([SOUND, SOUND], 0, "No advisory names any of 2 dependencies."),
        ([SOUND, FLAWED], 1, "h11 0.14.0: PYSEC-1, mended in 0.16.0"),
        ([HOPELESS], 1, "h2 4.0.0: PYSEC-2, mended in no version yet"),
        ([UNASKED, FLAWED], 1, "h11 0.14.0: PYSEC-1, mended in 0.16.0"),
        ([UNASKED, UNASKED], 3, "No advisory service answers here: the dependencies are NOT audited."),
        ([SOUND, UNASKED], 3, "No answer for click: they are NOT audited."),
        ([], 3, "No advisory service answers here: the dependencies are NOT audited."),
    ],
)
def test_the_verdict(dependencies: list[dict[str, Any]], code: int, words: str) -> None:
    assert judge(dependencies) == (code, [words])
