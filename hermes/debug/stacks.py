"""Stacks as data: a frame, a sample, and a table that captures stacks cheaply and names them later.

Capturing runs in a signal handler or against a thread that is being watched, so it only collects integers; what costs
(line tables, names) waits for ``resolve``. Invariant: a capture is bounded in depth, and the innermost frames survive.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from types import CodeType, FrameType
from typing import NamedTuple

import msgspec

MAX_DEPTH = 128  # frames; a recursion deeper than this is cut at its outer end
_CUT = (0, 0)  # no code object has the id 0


class Frame(msgspec.Struct, frozen=True):
    """One line of a stack. ``function`` carries its module: ``hermes.engine.intake.Intake.put``."""

    function: str
    file: str
    line: int
    first_line: int = 0


class Sample(NamedTuple):
    """A stack, outermost frame first, and what was measured there: one value for each sample type of its profile."""

    stack: tuple[Frame, ...]
    values: tuple[int, ...]
    labels: tuple[tuple[str, str], ...] = ()


RawStack = tuple[int, ...]  # code id, instruction offset, code id, … from the innermost frame outwards


class StackTable:
    """Turns live frames into hashable tuples, and those into frames with names and lines.

    Code objects are known by their id: hashing one walks all its constants. The table keeps them alive, so that an id
    stays unique, and so it grows with the code that was seen, not with the number of captures.
    """

    def __init__(self) -> None:
        self._codes: dict[int, tuple[CodeType, str]] = {}
        self._frames: dict[tuple[int, int], Frame] = {}

    def capture(self, frame: FrameType | None, until: FrameType | None = None) -> RawStack:
        """The stack of ``frame``, outwards as far as ``until`` (included), or whole."""
        codes = self._codes
        raw: list[int] = []
        while frame is not None:
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
        """The frames of a captured stack, outermost first."""
        pairs = zip(raw[-2::-2], raw[-1::-2], strict=True)
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
    """The samples with equal stacks and labels added up: several instructions make a line."""
    sums: dict[tuple[tuple[Frame, ...], tuple[tuple[str, str], ...]], tuple[int, ...]] = {}
    for stack, values, labels in samples:
        before = sums.get((stack, labels))
        sums[stack, labels] = values if before is None else tuple(map(operator.add, before, values))
    return tuple(Sample(stack, values, labels) for (stack, labels), values in sums.items())


def synthetic(name: str) -> Frame:
    """A frame that stands for something without a Python line."""
    return Frame(name, "", 0)


def frame_of(frame: FrameType) -> Frame:
    """The frame as data, at once; for the few frames of a suspended task."""
    code = frame.f_code
    module = frame.f_globals.get("__name__", "?")
    return Frame(f"{module}.{code.co_qualname}", code.co_filename, frame.f_lineno, code.co_firstlineno)


def short_path(file: str) -> str:
    """The last three parts of a path: enough to recognise a file by."""
    return "/".join(file.rsplit("/", 3)[-3:])


def _line(code: CodeType, offset: int) -> int:
    for start, end, line in code.co_lines():
        if start <= offset < end and line is not None:
            return line
    return code.co_firstlineno
