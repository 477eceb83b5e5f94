"""The help of every command: a page that is whole, fits 80 columns, and whose examples cannot rot."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import click
import msgspec
import pytest
from click.testing import CliRunner, Result

from hermes.cli import _OWN, main
from hermes.console.manual import WIDTH, ManualCommand, ManualGroup
from hermes.events.event import Event
from hermes.events.settings import EventSettings
from hermes.parts import built_in_commands

ROOT = Path(__file__).resolve().parents[2]
OTHERS = {"curl", "jq", "less", "source"}
"""What examples use beside Hermes."""


def walk(command: ManualCommand, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ManualCommand]]:
    yield path, command
    if isinstance(command, ManualGroup):
        for name, each in command.pages():
            yield from walk(each, (*path, name))


PAGES = dict(walk(main))
every_page = pytest.mark.parametrize("path", PAGES, ids=" ".join)


def run(*arguments: str, columns: int = WIDTH, color: bool = False, **environ: str) -> Result:
    with patch.dict(os.environ, environ | {"COLUMNS": str(columns)}, clear=True):
        return CliRunner().invoke(main, arguments, color=color)


def page(path: tuple[str, ...]) -> str:
    result = run(*path, "--help")
    assert (result.exit_code, result.stderr) == (0, "")
    return result.stdout


def test_every_command_has_a_page() -> None:
    with click.Context(main) as ctx:
        names = set(main.list_commands(ctx))
    assert {path[0] for path in PAGES if path} == names
    assert {("dlq", "replay"), ("log", "repair"), ("config", "explain")} <= PAGES.keys()


@every_page
def test_a_page_has_its_sections_in_order_and_at_80_columns(path: tuple[str, ...]) -> None:
    text = page(path)
    headings = re.findall(r"^[A-Z].*$", text, re.M)
    assert headings[:2] == ["NAME", "SYNOPSIS"]
    known = ["DESCRIPTION", "OPTIONS", "ENVIRONMENT", "FILES", "EXAMPLES", "EXIT STATUS", "SEE ALSO"]
    found = [heading for heading in headings if heading in known]
    assert found == [heading for heading in known if heading in found]
    assert {"OPTIONS", "EXAMPLES", "EXIT STATUS"} <= set(found)
    assert max(map(len, text.splitlines())) <= WIDTH
    assert f"  {' '.join(['hermes', *path])} - {PAGES[path].summary[:20]}" in text


@every_page
def test_a_page_describes_has_examples_and_names_its_exit_codes(path: tuple[str, ...]) -> None:
    command = PAGES[path]
    assert re.fullmatch(r"[A-Z].{9,70}\.", command.summary), "a sentence that fits a line of the list"
    assert command.manual.examples
    assert {0, 2} <= command.manual.exits.keys()
    assert all(words.endswith((".", "?")) for words in command.manual.exits.values())
    undocumented = [
        parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and not parameter.hidden and not parameter.help
    ]
    assert not undocumented
    for argument in command.params:
        if isinstance(argument, click.Argument):
            name = re.sub(r"\W", "", argument.metavar or argument.human_readable_name)
            assert name in str(command.help), "an argument has no help of its own: the docstring says what it is"


def hermes_commands(line: str) -> Iterator[list[str]]:
    """The words of every ``hermes`` in a line of shell, without what stands before and after it."""
    line = line.replace("\\\n", " ")
    if "<(" in line:
        line = line.replace("<(", " ; ").replace(")", " ; ")
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, "|"]:
        if word in {"|", ";", ">", "&&"}:
            while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
                words.pop(0)
            if words:
                assert words[0] in OTHERS | {"hermes"} or words[0].startswith("~"), line
            if words and words[0] == "hermes":
                yield words[1:]
            words = []
        else:
            words.append(word)


EXAMPLES = [(path, line) for path, command in PAGES.items() for _, line in command.manual.examples]


@pytest.mark.parametrize(("path", "line"), EXAMPLES, ids=lambda each: each if isinstance(each, str) else "")
def test_an_example_parses(path: tuple[str, ...], line: str) -> None:
    found = list(hermes_commands(line))
    assert found or line.startswith("curl ")
    with patch.dict(os.environ, {}, clear=True):
        for arguments in found:
            ctx = main.make_context("hermes", list(arguments))
            rest = [*ctx._protected_args, *ctx.args]
            while isinstance(ctx.command, click.Group):
                name, command, rest = ctx.command.resolve_command(ctx, rest)
                assert command is not None
                ctx = command.make_context(name, rest, parent=ctx)
                rest = [*ctx._protected_args, *ctx.args]


def test_the_event_of_the_first_examples_is_one_that_is_taken() -> None:
    ((_, line),) = [example for example in main.manual.examples if example[1].startswith("curl ")]
    words = shlex.split(line.replace("\\\n", " "))
    event = msgspec.json.decode(words[words.index("-d") + 1], type=Event)
    assert event.id == "1"
    assert event.type in EventSettings().event_types


def test_the_examples_of_a_command_use_it() -> None:
    for path, command in PAGES.items():
        used = [" ".join(words) for _, line in command.manual.examples for words in hermes_commands(line)]
        assert any(words.startswith(" ".join(path)) for words in used), path


@pytest.mark.parametrize(
    "line", [line for path, line in EXAMPLES if path[:1] in {("help",), ("completion",), ("config",), ("sinks",)}]
)
def test_a_harmless_example_runs(line: str) -> None:
    for arguments in hermes_commands(line):
        if arguments[0] != "serve":
            result = run(*arguments, HOME="/nowhere")
            assert (result.exit_code, result.stderr) == (0, "")
            assert result.stdout


@every_page
def test_see_also_names_what_there_is(path: tuple[str, ...]) -> None:
    for name in PAGES[path].manual.see_also:
        words = tuple(name.removeprefix("hermes ").removesuffix(" COMMAND").split())
        assert words in PAGES
        assert words != path


@every_page
def test_hermes_help_shows_the_same_page(path: tuple[str, ...]) -> None:
    assert run("help", *path).stdout == page(path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["help", "nowhere"], "no such command 'nowhere'"),
        (["help", "dlq", "lst"], "no such command 'dlq lst': did you mean dlq list?"),
        (["help", "serve", "more"], "serve: it has no commands under it, so no 'more'"),
    ],
    ids=repr,
)
def test_help_for_what_is_no_command_is_one_line(arguments: list[str], words: str) -> None:
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(f"hermes: {words}")
    assert result.stderr.count("\n") == 1


def test_the_summaries_of_the_list_are_those_of_the_commands() -> None:
    for command in (*_OWN, *built_in_commands()):
        assert PAGES[command.name,].summary == command.summary


def test_headings_are_bold_where_colours_are_wanted_and_not_elsewhere() -> None:
    assert run("--help", color=True).stdout.startswith("\x1b[1mNAME\x1b[0m\n")
    assert "\x1b" not in run("--help", color=True, NO_COLOR="1").stdout
    assert "\x1b" not in run("--help").stdout
    assert "\x1b" not in run("help", "serve", color=True, NO_COLOR="1").stdout


@pytest.mark.parametrize(("columns", "most"), [(60, 60), (80, 80), (300, 80)])
def test_a_page_fits_the_terminal_and_is_never_too_wide_to_read(columns: int, most: int) -> None:
    with patch.dict(os.environ, {"COLUMNS": str(columns)}):
        ctx = main.make_context("hermes", ["dlq"])
        text = PAGES["dlq",].make_context("dlq", ["list"], parent=ctx).get_help()
    assert most - 12 < max(map(len, text.splitlines())) <= most


def test_the_reference_is_that_of_the_commands() -> None:
    command = [sys.executable, str(ROOT / "scripts" / "cli-reference")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert ROOT.joinpath("docs", "reference", "cli.md").read_text() == printed, "run scripts/cli-reference --write"


def test_a_list_of_the_commands_imports_none_of_them() -> None:
    """Help and completion are typed at a prompt: they do without the service, its sinks and Trio's friends."""
    script = (
        "import sys\n"
        "from click.testing import CliRunner\n"
        "from hermes.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        "assert CliRunner().invoke(main, [], env={'_HERMES_COMPLETE': 'bash_complete', 'COMP_WORDS': 'hermes ',"
        " 'COMP_CWORD': '1'}).stdout.startswith('plain,serve')\n"
        "heavy = {'hermes.app', 'hermes.cli.serve', 'quart', 'rich', 'structlog', 'httpx', 'sqlite3',"
        " 'hermes.events.engine', 'hermes.net.control', 'hermes.net.http', 'prometheus_client'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
