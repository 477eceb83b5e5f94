"""Stacks as data: a frame, a sample, and a table that captures stacks cheaply and names them later.

Invariant: a capture is bounded in depth, and keeps the innermost frames.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import NamedTuple

import msgspec

# Frames. A deeper recursion is cut at its outer end, because the innermost frames use the time.
MAX_DEPTH = 128
# Marks the cut: no code object has the id 0.
_CUT = (0, 0)


class Frame(msgspec.Struct, frozen=True):
    """One line of a stack. ``function`` carries its module: ``hermes.events.engine.intake.Intake.put``."""

    function: str
    file: str
    line: int
    first_line: int = 0


class Sample(NamedTuple):
    """A stack, outermost frame first, and its measured values: one for each sample type of the profile."""

    stack: tuple[Frame, ...]
    values: tuple[int, ...]
    labels: tuple[tuple[str, str], ...] = ()


# Code id, instruction offset, code id, … from the innermost frame outwards. A flat tuple of integers is cheap to hash.
RawStack = tuple[int, ...]


class StackTable:
    """Turns live frames into hashable tuples, and the tuples into frames with names and lines.

    The table keeps code objects alive, so that an id stays unique. It grows with the code that was seen, not with the
    number of captures.

    >>> import sys
    >>> table = StackTable()
    >>> raw = table.capture(sys._getframe())
    >>> table.resolve(raw)[-1].function.rpartition(".")[2]
    '<module>'
    """

    def __init__(self) -> None:
        # By id: hashing a code object walks all of its constants.
        self._codes: dict[int, tuple[CodeType, str]] = {}
        self._frames: dict[tuple[int, int], Frame] = {}

    def capture(self, frame: FrameType | None, until: FrameType | None = None) -> RawStack:
        """Return the stack of ``frame``, outwards to ``until`` (included), or the whole stack."""
        # This runs in a signal handler or against a watched thread, so it collects only integers. Line tables and
        # names, which cost more, wait for `resolve`.
        codes = self._codes
        raw: list[int] = []
        while frame is not None:
            # Two numbers for each frame.
            if len(raw) == 2 * MAX_DEPTH:
                raw += _CUT
                break
            code = frame.f_code
            key = id(code)
            if key not in codes:
                codes[key] = (code, frame.f_globals.get("__name__", "?"))
            raw += (key, frame.f_lasti)
            if frame is until:
                break
            frame = frame.f_back
        return tuple(raw)

    def resolve(self, raw: RawStack) -> tuple[Frame, ...]:
        """Return the frames of a captured stack, outermost first."""
        # From the end, since a capture has the innermost frame first.
        pairs = zip(raw[-2::-2], raw[-1::-2], strict=True)
        # Named once for each place: resolving a line walks the code's line table.
        return tuple(self._frames.get(pair) or self._name(*pair) for pair in pairs)

    def _name(self, key: int, offset: int) -> Frame:
        if key == 0:
            frame = synthetic(f"[more than {MAX_DEPTH} frames]")
        else:
            code, module = self._codes[key]
            line = _line(code, offset)
            frame = Frame(f"{module}.{code.co_qualname}", code.co_filename, line, code.co_firstlineno)
        self._frames[key, offset] = frame
        return frame


def merge(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """Return the samples with the values of equal stacks and labels added up: several instructions make one line.

    >>> stack = (synthetic("parse"),)
    >>> merge([Sample(stack, (1, 10)), Sample(stack, (1, 5))])[0].values
    (2, 15)
    """
    sums: dict[tuple[tuple[Frame, ...], tuple[tuple[str, str], ...]], tuple[int, ...]] = {}
    for stack, values, labels in samples:
        before = sums.get((stack, labels))
        sums[stack, labels] = values if before is None else tuple(map(operator.add, before, values))
    return tuple(Sample(stack, values, labels) for (stack, labels), values in sums.items())


def synthetic(name: str) -> Frame:
    """Return a frame that stands for something without a Python line."""
    return Frame(name, "", 0)


def frame_of(frame: FrameType) -> Frame:
    """Return the frame as data, with its name; cheap enough only for the few frames of a suspended task."""
    code = frame.f_code
    module = frame.f_globals.get("__name__", "?")
    return Frame(f"{module}.{code.co_qualname}", code.co_filename, frame.f_lineno, code.co_firstlineno)


def short_path(file: str) -> str:
    """Return the last three parts of a path, enough to recognise a file.

    >>> short_path("/usr/lib/hermes/events/engine/intake.py")
    'events/engine/intake.py'
    """
    return "/".join(file.rsplit("/", 3)[-3:])


def _line(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        # Some instructions have no line; the function's first line stands for them.
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno
