"""What somebody may have meant: the names that are one slip of the finger away from the one that was typed.

Pure. A slip is a letter too many, too few or wrong, or two that changed places (Damerau's distance, each letter touched
once). Used for commands, options and the variables of the environment.
"""

from __future__ import annotations

from collections.abc import Iterable

_LONG = 6  # letters, from which a word may hold two slips
_PREFIX = "HERMES_"


def distance(one: str, other: str) -> int:
    """The least number of slips that make ``one`` the ``other``."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, above, row = row, before, [i]
        for j, wanted in enumerate(other, 1):
            best = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (letter != wanted))
            if i > 1 and j > 1 and letter == other[j - 2] and one[i - 2] == wanted:
                best = min(best, above[j - 2] + 1)
            row.append(best)
    return row[-1]


def close_words(word: str, words: Iterable[str]) -> list[str]:
    """Those of ``words`` that ``word`` may stand for, at most two, the likeliest first: cut short, or with a slip."""
    found = []
    for other in words:
        slips = distance(word.lower(), other.lower())
        if slips <= _allowed(other):
            found.append((slips, other))
        elif len(word) >= 2 and other.lower().startswith(word.lower()):
            found.append((_allowed(other) + 1, other))
    return [other for _, other in sorted(found)[:2]]


def misspelt(name: str, declared: Iterable[str]) -> str | None:
    """The variable that ``name`` is a misspelling of, if it is one of any of ``declared``.

    Compared word by word, for DB_HOST is another thing than DB_DSN, though most letters are the same. ``HERMES_``
    before a variable that has no such prefix is a misspelling too.
    """
    ranked = [(slips, other) for other in declared if (slips := _slips(name.upper(), other)) is not None]
    return min(ranked)[1] if ranked else None


def _slips(name: str, declared: str) -> int | None:
    """The slips between two names of variables; None where they are different names."""
    if name.startswith(_PREFIX) and not declared.startswith(_PREFIX):
        name = name.removeprefix(_PREFIX)
    words, wanted = name.split("_"), declared.split("_")
    if len(words) != len(wanted):
        # A line too many or too few is a slip of its own, and leaves no room for another.
        return 1 if "".join(words) == "".join(wanted) else None
    slips = 0
    for word, other in zip(words, wanted, strict=True):
        found = 1 if len(other) >= 4 and word.startswith(other) else distance(word, other)
        if word != other and found > _allowed(other):
            return None
        slips += found if word != other else 0
    return slips if slips <= 2 else None


def _allowed(word: str) -> int:
    return 2 if len(word) >= _LONG else 1
