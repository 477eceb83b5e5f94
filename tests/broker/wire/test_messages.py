"""The generated messages are those of the ``.proto`` file."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_the_generated_modules_are_current() -> None:
    found = subprocess.run(
        [sys.executable, str(ROOT / "scripts/protobuf")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (found.returncode, found.stderr) == (0, "")
