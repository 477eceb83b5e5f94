"""The scripts around the image and the chart say how they are used, and stop before they do harm."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.deploy.helm import ROOT


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
