"""How the dead letters of a part are shown: in the part's own words, or plainly where the part has none. Pure.

Invariant: every letter can be shown, whichever part wrote it, also while this part is not installed.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from hermes.base.quoting import printable
from hermes.dead_letters.contract import DeadLetter, Fact


class PlainMembers(msgspec.Struct, omit_defaults=True):
    """The members of a letter in JSON that its part does not write itself."""

    facts: dict[str, Fact]
    body: str | msgspec.UnsetType = msgspec.UNSET
    """The body, if it is text."""
    body_base64: str | msgspec.UnsetType = msgspec.UNSET
    """The body, if it is not text."""


def plain_members(letter: DeadLetter) -> PlainMembers:
    """The facts and the body of any letter.

    >>> from hermes.dead_letters import Source
    >>> letter = DeadLetter(Source("jobs", "emails"), {"job": 7}, b"to: ann", "no", 1, 9.0, 1.0)
    >>> msgspec.json.encode(plain_members(letter))
    b'{"facts":{"job":7},"body":"to: ann"}'
    """
    # A dict, because msgspec encodes no other mapping.
    facts = dict(letter.facts)
    try:
        return PlainMembers(facts, body=letter.body.decode())
    except UnicodeDecodeError:
        # JSON has no bytes, only text.
        return PlainMembers(facts, body_base64=b64encode(letter.body).decode())


@dataclass(frozen=True)
class LetterView:
    """How the letters of a part are shown. Without arguments: plainly, by the names of the facts.

    ``source`` and ``body`` are the part's own words for these two. ``titles`` and ``texts`` say how some facts are
    called and written, by their names. ``listed`` are the facts in a list of letters; None: all of them.
    ``members(letter)`` are the letter's members in JSON beside those that every letter has; ``kind()`` is their type.

    >>> from hermes.dead_letters import DeadLetter, Source
    >>> view = LetterView(source="queue", titles={"job": "job number"})
    >>> [*view.facts(DeadLetter(Source("jobs", "emails"), {"job": 7}, b"", "no", 1, 9.0, 1.0))]
    [('job number', '7')]
    """

    source: str = "source"
    body: str = "body"
    titles: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, Callable[[Any], str]] = field(default_factory=dict)
    listed: Sequence[str] | None = None
    members: Callable[[DeadLetter], msgspec.Struct] = plain_members
    kind: Callable[[], type[msgspec.Struct]] = lambda: PlainMembers

    def facts(self, letter: DeadLetter, *, as_row: bool = False) -> Iterator[tuple[str, str]]:
        """The facts of a letter, each as its title and its text; ``as_row``: only those of a list."""
        for name in letter.facts if self.listed is None or not as_row else self.listed:
            if name in letter.facts:
                yield self.titles.get(name, name), self.texts.get(name, str)(letter.facts[name])


PLAIN = LetterView()
"""The view of a part that declares none."""


def body_as_text(letter: DeadLetter) -> str | None:
    r"""The body as lines that are safe for a terminal; None if it is not text.

    >>> from hermes.dead_letters import Source
    >>> body_as_text(DeadLetter(Source("jobs", "emails"), {}, b"one\ntwo\x1b[2J", "no", 1, 9.0, 1.0))
    'one\ntwo\\x1b[2J'
    """
    try:
        lines = letter.body.decode().split("\n")
    except UnicodeDecodeError:
        return None
    # The line breaks and tabs are the body's own layout; every other such character could be a command to the terminal.
    # Without the CR of a CR LF, which `printable` would show as an escape at the end of each line.
    return "\n".join("\t".join(map(printable, line.removesuffix("\r").split("\t"))) for line in lines)
