"""Shell completion: what a shell gets offered, asked as the shells ask, and in a real bash."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from hermes.cli import main

SHELLS = ["bash", "zsh", "fish"]


def ask(shell: str, line: str, **environ: str) -> list[str]:
    """What the script of a shell gets for a line that ends where the cursor is, as lines of its protocol."""
    words = line.split(" ")
    asked = {"_HERMES_COMPLETE": f"{shell}_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    if shell == "fish":
        asked["COMP_CWORD"] = words[-1]
    with patch.dict(os.environ, asked | environ, clear=True):
        result = CliRunner().invoke(main)
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout.splitlines()


def offers(line: str, **environ: str) -> list[str]:
    """The words that bash is offered."""
    return [text.removeprefix("plain,") for text in ask("bash", line, **environ) if text]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("hermes s", ["serve", "sinks"]),
        ("hermes dlq ", ["list", "show", "replay", "purge"]),
        ("hermes config e", ["explain"]),
        ("hermes dlq list --si", ["--sink", "--since"]),
        ("hermes dlq list --since", ["--since"]),
        ("hermes load --conn", ["--connections"]),
        ("hermes log repair --y", ["--yes"]),
        ("hermes --v", ["--version"]),
        ("hermes completion ", ["bash", "zsh", "fish"]),
        ("hermes help d", ["dlq"]),
        ("hermes help dlq p", ["purge"]),
        ("hermes help serve ", []),
        ("hermes help nowhere ", []),
        ("hermes log check ", ["dir,"]),
    ],
    ids=repr,
)
def test_commands_and_options_are_completed(line: str, expected: list[str]) -> None:
    assert sorted(offers(line)) == sorted(expected)


def test_every_command_is_offered() -> None:
    assert {"serve", "sinks", "config", "dlq", "log", "top", "tap", "load", "help", "completion"} <= set(
        offers("hermes ")
    )


@pytest.mark.parametrize("line", ["hermes dlq list --sink ", "hermes dlq purge --sink=", "hermes dlq replay 1 --sink "])
def test_sinks_are_completed_by_name_those_of_the_environment_too(line: str) -> None:
    assert {"null", "postgres", "sqlite", "stdout", "mine"} <= set(offers(line, SINKS="mine,sqlite"))
    assert offers("hermes dlq list --sink postg") == ["postgres"]


@pytest.mark.parametrize("command", ["dlq list", "load", "tap"])
def test_event_types_are_completed_from_the_settings(command: str) -> None:
    assert offers(f"hermes {command} --type a", EVENT_TYPES="added,again,other") == ["added", "again"]
    assert offers(f"hermes {command} --type s") == ["song_played"]
    assert offers(f"hermes {command} --type ", EVENT_TYPES="*") == []


def test_names_of_settings_are_completed_in_any_case() -> None:
    assert offers("hermes config explain QUEUE_") == ["QUEUE_BYTES", "QUEUE_SIZE"]
    assert offers("hermes config explain QUEUE_SIZE queue_b") == ["QUEUE_BYTES"]


@pytest.mark.parametrize("environ", [{"QUEUE_SIZE": "many"}, {"EVENT_TYPES": "no name"}, {"SINKS_FILE": "/nowhere"}])
def test_a_wrong_environment_disturbs_no_completion(environ: dict[str, str]) -> None:
    assert offers("hermes serv", **environ) == ["serve"]
    assert "sqlite" in offers("hermes dlq list --sink ", **environ)
    offers("hermes load --type ", **environ)


@pytest.mark.parametrize("shell", SHELLS)
def test_each_shell_is_answered_in_its_own_protocol(shell: str) -> None:
    expected = {"bash": ["plain,serve"], "fish": ["plain,serve\tRun the service until SIGTERM, SIGINT or SIGQUIT."]}
    expected["zsh"] = ["plain", "serve", "Run the service until SIGTERM, SIGINT or SIGQUIT."]
    assert ask(shell, "hermes serv") == expected[shell]


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_all_that_stdout_holds(shell: str) -> None:
    result = CliRunner().invoke(main, ["completion", shell])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "_hermes_completion" in result.stdout
    assert f"_HERMES_COMPLETE={shell}_complete" in result.stdout
    assert "root" not in result.stdout, "it completes `hermes`, however it was called"


def test_on_a_terminal_it_says_where_to_keep_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hermes.console.completion._is_terminal", lambda: True)
    result = CliRunner().invoke(main, ["completion", "fish"])
    assert result.stderr.startswith("hermes: keep this in ~/.config/fish/completions/hermes.fish; ")
    assert result.stderr.count("\n") == 1


def test_an_unknown_shell_is_one_line() -> None:
    result = CliRunner().invoke(main, ["completion", "tcsh"])
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr == "hermes: completion: SHELL: 'tcsh' is not one of 'bash', 'zsh', 'fish'\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash here")
def test_bash_completes_with_the_script(tmp_path: Path) -> None:
    program = tmp_path / "hermes"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hermes "$@"\n')
    program.chmod(0o755)
    script = """
        source <(hermes completion bash)
        complete -p hermes
        ask() {
            COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
            _hermes_completion hermes
            echo "${COMPREPLY[@]}"
        }
        ask hermes dl
        ask hermes dlq pur
        ask hermes dlq list --sink sqli
    """
    environ = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path)}
    done = subprocess.run(["bash", "--norc", "-c", script], env=environ, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    registered, *completed = done.stdout.splitlines()
    assert registered.endswith("-F _hermes_completion hermes")
    assert completed == ["dlq", "purge", "sqlite"]
