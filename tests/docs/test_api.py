"""The reference of the Python interface: every name has a docstring, and an example that runs where one is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.docs.api import NAMES, OTHERS, examples, needs_example, run_example, space


def test_every_public_name_has_a_docstring() -> None:
    assert [f"{name.module}.{name.name}" for name in NAMES if not name.doc] == []


def test_every_name_whose_call_is_not_obvious_has_an_example() -> None:
    lacking = {name.name for name in NAMES if needs_example(name) and not examples(name)}
    assert lacking == OTHERS.keys()


@pytest.mark.parametrize(
    "name",
    [name for name in NAMES if examples(name) and name.module != "hermes.kit.postgres"],
    ids=lambda name: f"{name.module}.{name.name}",
)
async def test_the_examples_run(name: Any, tmp_path: Path) -> None:
    """Those of `hermes.kit.postgres` run in tests/integration/test_api_postgres.py, with a server."""
    for example in examples(name):
        await run_example(example, name.name, space(tmp_path))
