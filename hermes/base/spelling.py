"""Finds the names that are one slip of the finger away from a typed name. Pure.

A slip is a letter too many, too few or wrong, or two letters that changed places (Damerau's distance, each letter
touched once).

Invariant: a suggestion is at most two slips away.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

# Letters. A word of at least this many may have two slips; in a shorter word two slips make another word.
_LONG = 6
_PREFIX = "HERMES_"


def distance(one: str, other: str) -> int:
    """Return the least number of slips that make ``one`` the ``other``.

    >>> distance("replya", "replay"), distance("sink", "sinks")
    (1, 1)
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, above, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                # Two neighbours that changed places are one slip, not two.
                best = min(best, above[j - 2] + 1)
            row.append(best)
    return row[-1]


def close_words(word: str, words: Iterable[str]) -> list[str]:
    """Return the words that ``word`` may stand for, cut short or with a slip: at most two, the likeliest first.

    >>> close_words("relpay", ["list", "replay", "purge"])
    ['replay']
    """
    found = []
    for other in words:
        slips = distance(word.lower(), other.lower())
        if slips <= _allowed(other):
            found.append((slips, other))
        # One letter is the beginning of too many words.
        elif len(word) >= 2 and other.lower().startswith(word.lower()):
            # A beginning of a word ranks behind every misspelling.
            found.append((_allowed(other) + 1, other))
    return [other for _, other in sorted(found)[:2]]


def suggest(name: str, known: Collection[str]) -> str:
    """Advice for an unknown name: the names that may be meant, or else the names that exist.

    >>> suggest("postgers", ["postgres", "sqlite"])
    'did you mean postgres?'
    """
    close = close_words(name, known)
    return f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(sorted(known))}"


def misspelt(name: str, declared: Iterable[str]) -> str | None:
    """Return the variable that ``name`` is a misspelling of, or None.

    Names are compared word by word, because DB_HOST is another name than DB_DSN, though most letters are the same.
    ``HERMES_`` before a variable without this prefix is a misspelling too.

    >>> misspelt("DB_DNS", ["DB_DSN", "QUEUE_SIZE"])
    'DB_DSN'
    """
    ranked = [(slips, other) for other in declared if (slips := _slips(name.upper(), other)) is not None]
    return min(ranked)[1] if ranked else None


def _slips(name: str, declared: str) -> int | None:
    """Return the slips between two names of variables; None if they are different names."""
    if name.startswith(_PREFIX) and not declared.startswith(_PREFIX):
        name = name.removeprefix(_PREFIX)
    words, wanted = name.split("_"), declared.split("_")
    if len(words) != len(wanted):
        # An underscore too many or too few is a slip of its own, and leaves no room for another.
        return 1 if "".join(words) == "".join(wanted) else None
    slips = 0
    for word, other in zip(words, wanted, strict=True):
        # A longer ending of a word (SINKS for SINK, SECONDS for SECOND) is one slip.
        found = 1 if len(other) >= 4 and word.startswith(other) else distance(word, other)
        if word != other and found > _allowed(other):
            return None
        slips += found if word != other else 0
    return slips if slips <= 2 else None


def _allowed(word: str) -> int:
    return 2 if len(word) >= _LONG else 1
