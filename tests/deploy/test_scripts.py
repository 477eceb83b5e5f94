"""The scripts around the image and the chart say how they are used, and stop before they do harm."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from tests.deploy.helm import ROOT


def test_ruff_and_mypy_check_every_script_that_is_python() -> None:
    scripts = [path for path in ROOT.joinpath("scripts").iterdir() if path.read_text().startswith("#!/usr/bin/env py")]
    tools = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["tool"]
    names = {f"scripts/{path.name}" for path in scripts}
    assert names == set(tools["ruff"]["extend-include"])
    assert names <= set(tools["mypy"]["files"])


@pytest.mark.parametrize("script", ["Makefile", ".ci/run", *(f"scripts/{p.name}" for p in ROOT.glob("scripts/*"))])
def test_the_tests_that_a_script_names_exist(script: str) -> None:
    named = set(re.findall(r"(?<![\w/])tests/[\w/]+(?:\.py)?", ROOT.joinpath(script).read_text()))
    assert {name for name in named if not ROOT.joinpath(name).exists()} == set()


@pytest.mark.parametrize(
    ("script", "arguments", "code", "words"),
    [
        ("with-engine", [], 2, "with-engine FOLDER COMMAND"),
        ("with-engine", ["/tmp"], 2, "with-engine FOLDER COMMAND"),
        ("helm-values", [], 1, "--write    put them there"),
        ("helm-values", ["--chek"], 1, "--check    exit 1"),
    ],
)
def test_a_script_that_is_called_wrongly_says_how_it_is_used(
    script: str, arguments: list[str], code: int, words: str
) -> None:
    path = ROOT / "scripts" / script
    interpreter = [sys.executable] if "python" in path.read_text().partition("\n")[0] else []  # the one with Hermes
    done = subprocess.run([*interpreter, path, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == code
    assert words in done.stderr
