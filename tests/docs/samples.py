"""The shell samples of the documents: found, told apart, and compared with what their commands print. Pure.

A block of the language ``console`` is run: a line that begins with ``$ `` is a command, which goes on while a line ends
in a backslash or a bar, and what follows is its output. There ``…`` stands for anything within a line, a line of its
own for any number of lines; after ``curl -i`` headers may be left out. A command without output may print what it
likes. A comment before a block says more:

    <!-- hermes: SINKS=file -->     a new Hermes in an empty folder, with these settings, for the blocks from here on
    <!-- hermes again -->           that one is stopped, and started on its folder again; settings may follow a colon
    <!-- not run: it needs docker -->

Any other block of shell, fenced or indented, has to say why it is not run. Called by the tests of the documents.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_COMMENT = re.compile(r"<!-- (hermes(?: again)?|not run)(?:: (.+))? -->")
_SHELL = {"console", "sh", "bash", "shell"}


@dataclass
class Command:
    """A command as it stands on the page, and what it prints."""

    text: str
    output: list[str] = field(default_factory=list)


@dataclass
class Block:
    """A block of shell. ``language`` is empty where it is indented; ``not_run`` says why it is not."""

    line: int
    language: str
    lines: list[str] = field(default_factory=list)
    hermes: str | None = None
    again: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    not_run: str = ""

    @property
    def commands(self) -> list[Command]:
        """The commands of a block that has their output too."""
        found: list[Command] = []
        goes_on = False
        for line in self.lines:
            if goes_on:
                found[-1].text += f"\n{line}"
            elif line.startswith("$ "):
                found.append(Command(line[2:]))
            elif found:
                found[-1].output.append(line)
            else:
                raise ValueError(f"line {self.line}: a block of console begins with a command, after `$ `")
            goes_on = (goes_on or line.startswith("$ ")) and line.endswith(("\\", "|"))
        return found


def blocks(document: Path) -> Iterator[Block]:
    """Every block of shell in a document, in order, with what the comment before it says."""
    block: Block | None = None
    comment: re.Match[str] | None = None
    before = ""
    inside = ""  # the fence, or the indentation, that the block is in
    for number, line in enumerate([*document.read_text().splitlines(), ""], 1):
        if inside == "```":
            if line == "```":
                if block is not None:
                    yield block
                inside, block = "", None
            elif block is not None:
                block.lines.append(line)
        elif line.startswith("```"):
            inside, language = "```", line[3:].strip()
            block = _begin(number, language, comment) if language in _SHELL else None
            comment = None
        elif line.startswith("    ") and (inside or not before):
            if not inside:
                inside, block = "    ", _begin(number, "", comment)
                comment = None
            assert block is not None
            block.lines.append(line[4:])
        elif inside and not line:
            assert block is not None
            block.lines.append("")
        else:
            if inside:
                assert block is not None
                block.lines = "\n".join(block.lines).strip("\n").split("\n")
                yield block
                inside, block = "", None
            if line:
                comment = _COMMENT.fullmatch(line)
        before = line
    if block is not None:
        block.lines = "\n".join(block.lines).strip("\n").split("\n")
        yield block


def _begin(number: int, language: str, comment: re.Match[str] | None) -> Block:
    block = Block(number, language)
    if comment is None:
        return block
    what, words = comment[1], comment[2] or ""
    if what == "not run":
        block.not_run = words
    else:
        block.hermes, block.again = what, what.endswith("again")
        block.settings = dict(word.split("=", 1) for word in words.split())
    return block


def fits(command: Command, printed: str) -> bool:
    """Whether a command has printed what the page says."""
    told = "\n".join(command.output).strip("\n")
    if not told:
        return True
    found = "\n".join(line.rstrip() for line in printed.replace("\r", "").splitlines()).strip("\n")
    if re.search(r"\bcurl -\w*i", command.text) and found.startswith("HTTP/"):
        found = _leave_headers_out(found, told)
    return re.fullmatch(_pattern(told), found) is not None


def _leave_headers_out(found: str, told: str) -> str:
    head, _, body = found.partition("\n\n")
    told_lines = told.lower().split("\n")
    status, *headers = head.split("\n")
    kept = [line for line in headers if line.lower() in told_lines]
    return "\n".join([status, *kept, "", body]).strip("\n")


def _pattern(told: str) -> str:
    lines = []
    for line in told.split("\n"):
        if line == "…":
            lines.append(r"(?s:.*)")
        else:
            lines.append("[^\n]*".join(re.escape(part) for part in line.rstrip().split("…")))
    return "\n".join(lines)
