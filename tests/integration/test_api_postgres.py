"""The examples of `hermes.kit.postgres` run, with a real server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.docs.api import NAMES, examples, run_example, space


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if examples(name) and name.module == "hermes.kit.postgres"],
    ids=lambda name: name.name,
)
async def test_the_examples_run(name: Any, tmp_path: Path, postgres_dsn: str) -> None:
    names = space(tmp_path, dsn=postgres_dsn)
    for example in examples(name):
        await run_example(example, name.name, names)
