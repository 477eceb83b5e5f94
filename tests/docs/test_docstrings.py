"""The sessions (``>>>``) in the docstrings of hermes and of the built-in sinks print what they say."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import hermes_sinks
import pytest

import hermes
from tests.docs.api import space

MODULES = sorted(
    ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(".__init__")
    for root in (Path(hermes.__file__).parent, Path(hermes_sinks.__file__).parent)
    for path in root.rglob("*.py")
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
