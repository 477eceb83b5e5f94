"""The examples in the docstrings of the public interface: which names need one, and how one is run."""

from __future__ import annotations

import ast
import doctest
import inspect
import os
import runpy
import sqlite3
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import msgspec
import psycopg
import pytest
import trio
from hypothesis import given

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "api-reference"

_reference = runpy.run_path(str(SCRIPT))
NAMES: list[Any] = list(_reference["public_names"]())
MODULES: dict[str, tuple[str, ...]] = _reference["MODULES"]

OTHERS = {
    "StaleWriter": "Hermes raises it; nobody else makes one",
    "NoSettings": "it has no fields",
}
"""Names that need no example though the rule asks for one, and why."""


def examples(name: Any) -> list[str]:
    """The examples of a name and of its methods."""
    docs = [name.doc, *(ast.get_docstring(method) or "" for method in name.methods)]
    return [example for doc in docs for example in _reference["examples"](doc)]


def needs_example(name: Any) -> bool:
    """Each class, but for an error that is only caught, and each function whose call its name does not tell."""
    thing = getattr(import_module(name.module), name.name)
    if inspect.isclass(thing):
        caught = issubclass(thing, BaseException) and "__init__" not in vars(thing)
        return not caught and not hasattr(thing, "__members__")
    if not inspect.isfunction(thing):
        return False
    returns_block = "contextmanager" in ast.unparse(name.node.decorator_list or ast.Constant(None))
    return returns_block or inspect.iscoroutinefunction(thing) or len(inspect.signature(thing).parameters) > 1


def space(folder: Path, **more: Any) -> dict[str, Any]:
    """What an example may use: every public name, the libraries that authors import, and a folder."""
    found: dict[str, Any] = {}
    for module, chosen in reversed(MODULES.items()):  # of two names that are alike, the one of `hermes` counts
        public = import_module(module)
        found |= {name: getattr(public, name) for name in chosen or public.__all__}
    found |= {each.__name__: each for each in (msgspec, os, psycopg, pytest, sqlite3, time, trio, Path, given)}
    found |= {"Annotated": Annotated, "Any": Any}
    found |= {"AsyncIterator": AsyncIterator, "Iterator": Iterator, "asynccontextmanager": asynccontextmanager}
    return found | {"folder": folder, "open_lines": None} | more


async def run_example(example: str, place: str, names: dict[str, Any]) -> None:
    """Run an example: a session with what it prints, or a block that may await. Raises what is wrong with it."""
    if example.startswith(">>> "):
        session = doctest.DocTestParser().get_doctest(example, names, place, place, 0)
        told: list[str] = []
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(session, out=told.append)
        assert not told, "".join(told)
        return
    code = compile(example, place, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    result = eval(code, names)
    if inspect.iscoroutine(result):
        with trio.fail_after(30):
            await result
