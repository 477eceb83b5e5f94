"""What a test does on a machine that lacks something: it is skipped and says what for; under CI=true it fails."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacks(what: str) -> NoReturn:
    """This machine cannot run the test, for want of something."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"under CI=true these tests may not be skipped: {what}")
    pytest.skip(what)
