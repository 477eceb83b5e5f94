"""The sessions (``>>>``) in the docstrings of hermes print what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import hermes
from tests.docs.api import space

ROOT = Path(hermes.__file__).parent

MODULES = sorted(
    ".".join(("hermes", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_a_session_in_a_docstring_prints_what_it_says(name: str, tmp_path: Path) -> None:
    module = import_module(name)
    names = space(tmp_path) | vars(module)
    # With the `annotations` of __future__ among its names, a session would write them as text that msgspec cannot read.
    names.pop("annotations", None)
    found = doctest.testmod(module, globs=names, optionflags=doctest.ELLIPSIS)
    assert found.attempted
    assert not found.failed
